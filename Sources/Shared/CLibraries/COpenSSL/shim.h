#pragma once
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

// EVP_RSA_gen and EVP_EC_gen are macros over a variadic function, BIO_get_mem_data is a macro: not imported by Swift.
static inline EVP_PKEY *karri_rsa_keygen(int bits) { return EVP_RSA_gen((unsigned)bits); }
static inline EVP_PKEY *karri_ec_keygen(void) { return EVP_EC_gen("P-256"); }
static inline long karri_bio_mem_data(BIO *b, char **p) { return BIO_get_mem_data(b, p); }
static inline int karri_rsa_padding_pkcs1(EVP_PKEY_CTX *c) { return EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_PADDING); }
static inline int karri_rsa_padding_oaep(EVP_PKEY_CTX *c) { return EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_OAEP_PADDING); }

// The stack macros of subjectAltName are static inline functions over generic stacks: one call that gives the n-th name of a kind.
// Returns its bytes (owned by the certificate's names, which the caller frees), or NULL when there is no n-th.
static inline const unsigned char *karri_san_at(GENERAL_NAMES *names, int type, int index, int *length) {
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != type || index-- > 0) continue;
        ASN1_STRING *text = (ASN1_STRING *)GENERAL_NAME_get0_value(name, NULL);
        *length = ASN1_STRING_length(text);
        return ASN1_STRING_get0_data(text);
    }
    return NULL;
}
