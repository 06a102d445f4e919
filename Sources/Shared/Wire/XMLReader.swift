import CLibXML2
public import Domain

/// A document that passed the safe parser and its libxml2 tree.
///
/// Signing canonicalises nodes of this very tree and hands the digested node to dispatch: one parse, one tree
/// (`reference/soap.md` §6.1, W16). The pointers are raw so that only rooms that use libxml2 need its headers; rebind them with
/// `assumingMemoryBound(to: xmlDoc.self)` and `xmlNode.self`. They live as long as this object: keep it alive
/// (`withExtendedLifetime`) while they are used. Not Sendable: a document belongs to one task.
public final class ParsedDocument {
    // SAFETY: made by `init`, freed once by `deinit`; nobody else frees it.
    private let document: xmlDocPtr

    /// `xmlDocPtr`
    public var rawDocument: UnsafeMutableRawPointer { UnsafeMutableRawPointer(document) }
    /// `xmlNodePtr` of the root element.
    public var rawRoot: UnsafeMutableRawPointer

    /// - Throws: `.requestTooLarge`, or `.malformedRequest` for all that is not well-formed UTF-8 XML within the limits without
    ///   DOCTYPE, comments and processing instructions.
    public init(parsing bytes: [UInt8], limits: XMLLimits = .init()) throws(CloudError) {
        try XMLPrescan.check(bytes, limits)
        _ = LibXML.prepared
        let guardian = ParseGuard(limits)
        guard let context = xmlNewParserCtxt() else { throw CloudError.bug("xmlNewParserCtxt: out of memory") }
        defer { xmlFreeParserCtxt(context) }
        LibXML.install(on: context)
        // SAFETY: the guard outlives the parse; the hooks run only inside xmlCtxtReadMemory below.
        context.pointee._private = Unmanaged.passUnretained(guardian).toOpaque()
        let options =
            XML_PARSE_NONET.rawValue | XML_PARSE_NOCDATA.rawValue | XML_PARSE_NOERROR.rawValue | XML_PARSE_NOWARNING.rawValue
        let parsed = bytes.withUnsafeBufferPointer { buffer in
            buffer.withMemoryRebound(to: CChar.self) {
                xmlCtxtReadMemory(context, $0.baseAddress, Int32($0.count), nil, "UTF-8", Int32(options))
            }
        }
        let sound = context.pointee.wellFormed == 1 && context.pointee.nsWellFormed == 1
        let refusal = withExtendedLifetime(guardian) { guardian.refusal }
        guard let parsed else { throw XMLPrescan.refused(refusal ?? "it is not well-formed") }
        guard sound, refusal == nil, parsed.pointee.intSubset == nil, parsed.pointee.extSubset == nil,
            let root = xmlDocGetRootElement(parsed)
        else {
            xmlFreeDoc(parsed)
            throw XMLPrescan.refused(refusal ?? "it is not well-formed")
        }
        document = parsed
        rawRoot = UnsafeMutableRawPointer(root)
    }

    deinit { xmlFreeDoc(document) }

    /// The whole tree as values.
    public func element() -> XMLElement { ParsedDocument.element(at: rawRoot) }

    /// The subtree at an `xmlNodePtr` of a parsed document, as values.
    public static func element(at rawNode: UnsafeMutableRawPointer) -> XMLElement {
        LibXML.element(rawNode.assumingMemoryBound(to: xmlNode.self))
    }
}

/// The safe parser: bytes to a tree of values.
public enum XMLReader {
    /// - Throws: as `ParsedDocument`.
    public static func parse(_ bytes: [UInt8], limits: XMLLimits = .init()) throws(CloudError) -> XMLElement {
        let document = try ParsedDocument(parsing: bytes, limits: limits)
        return withExtendedLifetime(document) { document.element() }
    }
}

/// What the hooks of one parse know. Lives on the stack of `ParsedDocument.init`.
private final class ParseGuard {
    let limits: XMLLimits
    var elements = 0
    var refusal: String?
    init(_ limits: XMLLimits) { self.limits = limits }
}

/// The part that touches libxml2's structures. The same rules as the prescan, in the parser itself: what the prescan might see
/// differently from the parser still stops here.
private enum LibXML {
    /// Process-wide, once: no output to stderr, no loading of anything.
    static let prepared: Bool = {
        xmlInitParser()
        karri_xml_silence()
        xmlSetExternalEntityLoader { _, _, _ in nil }
        return true
    }()

    static func install(on context: xmlParserCtxtPtr) {
        guard let sax = context.pointee.sax else { return }
        sax.pointee.internalSubset = { c, _, _, _ in LibXML.stop(c, "a DOCTYPE") }
        sax.pointee.externalSubset = { c, _, _, _ in LibXML.stop(c, "a DOCTYPE") }
        sax.pointee.entityDecl = { c, _, _, _, _, _ in LibXML.stop(c, "an entity declaration") }
        sax.pointee.reference = { c, _ in LibXML.stop(c, "an entity reference") }
        sax.pointee.getEntity = { c, name in
            // The five of XML itself are predefined; everything else needs a DTD.
            if let entity = xmlGetPredefinedEntity(name) { return entity }
            LibXML.stop(c, "an entity reference")
            return nil
        }
        sax.pointee.getParameterEntity = { c, _ in
            LibXML.stop(c, "a parameter entity")
            return nil
        }
        sax.pointee.comment = { c, _ in LibXML.stop(c, "a comment") }
        sax.pointee.processingInstruction = { c, _, _ in LibXML.stop(c, "a processing instruction") }
        sax.pointee.startElementNs = { c, name, prefix, uri, namespaces, spaces, attributes, defaulted, values in
            guard let guardian = LibXML.guardian(c) else { return }
            guardian.elements += 1
            let limits = guardian.limits
            if Int(attributes) > limits.maxAttributes || Int(namespaces) > limits.maxNamespaces {
                return LibXML.stop(c, "too many attributes")
            }
            if guardian.elements > limits.maxElements { return LibXML.stop(c, "more than \(limits.maxElements) elements") }
            if let c, Int(c.assumingMemoryBound(to: xmlParserCtxt.self).pointee.nodeNr) >= limits.maxDepth {
                return LibXML.stop(c, "more than \(limits.maxDepth) levels")
            }
            if !LibXML.isASCII(name) { return LibXML.stop(c, "a name that is not ASCII") }
            xmlSAX2StartElementNs(c, name, prefix, uri, namespaces, spaces, attributes, defaulted, values)
        }
    }

    private static func guardian(_ c: UnsafeMutableRawPointer?) -> ParseGuard? {
        // SAFETY: libxml2 gives the parser context as user data (no own user data was set), and `_private` holds the guard of
        // the `ParsedDocument.init` that is on the stack.
        guard let c, let held = c.assumingMemoryBound(to: xmlParserCtxt.self).pointee._private else { return nil }
        return Unmanaged<ParseGuard>.fromOpaque(held).takeUnretainedValue()
    }

    private static func stop(_ c: UnsafeMutableRawPointer?, _ why: String) {
        guard let c else { return }
        if let guardian = guardian(c), guardian.refusal == nil { guardian.refusal = why }
        let context = c.assumingMemoryBound(to: xmlParserCtxt.self)
        context.pointee.wellFormed = 0
        xmlStopParser(context)
    }

    /// Swift's `==` on String is canonical equivalence (KELVIN SIGN equals K): names outside ASCII are none of ours anyway.
    private static func isASCII(_ name: UnsafePointer<xmlChar>?) -> Bool {
        guard var p = name else { return false }
        while p.pointee != 0 {
            if p.pointee >= 0x80 { return false }
            p += 1
        }
        return true
    }

    private static func string(_ p: UnsafePointer<xmlChar>?) -> String {
        guard let p else { return "" }
        return String(cString: p)
    }

    /// Recursion is bounded by `maxDepth`.
    static func element(_ node: xmlNodePtr) -> XMLElement {
        var out = XMLElement(name: string(node.pointee.name), namespace: string(node.pointee.ns?.pointee.href))
        var attribute = node.pointee.properties
        while let a = attribute {
            var value = ""
            var part = a.pointee.children
            while let p = part {
                value += string(p.pointee.content)
                part = p.pointee.next
            }
            out.attributes.append(
                .init(name: string(a.pointee.name), namespace: string(a.pointee.ns?.pointee.href), value: value))
            attribute = a.pointee.next
        }
        var child = node.pointee.children
        while let c = child {
            switch c.pointee.type {
            case XML_ELEMENT_NODE: out.children.append(element(c))
            case XML_TEXT_NODE, XML_CDATA_SECTION_NODE: out.text += string(c.pointee.content)
            default: break
            }
            child = c.pointee.next
        }
        return out
    }
}
