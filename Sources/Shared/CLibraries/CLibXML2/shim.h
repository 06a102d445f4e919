#pragma once
#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <libxml/SAX2.h>
#include <libxml/tree.h>
#include <libxml/c14n.h>
#include <libxml/xmlerror.h>
#include <libxml/xmlIO.h>

// libxml2's generic error handler is variadic: silence it from C.
static void karri_xml_quiet(void *ctx, const char *msg, ...) { (void)ctx; (void)msg; }
static inline void karri_xml_silence(void) { xmlSetGenericErrorFunc(NULL, karri_xml_quiet); }

// xmlFree is a global function pointer, which Swift holds for shared mutable state.
static inline void karri_xml_free(void *p) { xmlFree(p); }
