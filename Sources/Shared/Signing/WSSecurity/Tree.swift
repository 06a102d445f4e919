import CLibXML2
import Domain

/// Reading libxml2's tree for the verifier: by namespace URI and local name, never by prefix; all comparisons are of bytes.
///
/// Nodes live as long as the `ParsedDocument` that the verifier holds.
typealias Node = xmlNodePtr

enum Tree {
    static func isElement(_ node: Node, _ namespace: String, _ name: String) -> Bool {
        guard node.pointee.type == XML_ELEMENT_NODE, let space = node.pointee.ns else { return false }
        return same(node.pointee.name, name) && same(space.pointee.href, namespace)
    }

    /// Whether a C string has exactly the bytes of `text`.
    static func same(_ c: UnsafePointer<xmlChar>?, _ text: String) -> Bool {
        guard let c else { return false }
        var p = c
        for byte in text.utf8 {
            guard p.pointee == byte else { return false }
            p += 1
        }
        return p.pointee == 0
    }

    static func string(_ c: UnsafePointer<xmlChar>?) -> String {
        guard let c else { return "" }
        return String(cString: c)
    }

    /// The element children, in order.
    /// - Throws: when anything but elements and white space stands there.
    static func children(_ node: Node) throws(CloudError) -> [Node] {
        var out: [Node] = []
        var next = node.pointee.children
        while let child = next {
            switch child.pointee.type {
            case XML_ELEMENT_NODE: out.append(child)
            case XML_TEXT_NODE, XML_CDATA_SECTION_NODE:
                guard isBlank(child.pointee.content) else { throw refused("text where only elements belong") }
            default: throw refused("a node that is neither element nor text")
            }
            next = child.pointee.next
        }
        return out
    }

    private static func isBlank(_ text: UnsafePointer<xmlChar>?) -> Bool {
        guard var p = text else { return true }
        while p.pointee != 0 {
            guard p.pointee == 0x20 || p.pointee == 0x0a || p.pointee == 0x0d || p.pointee == 0x09 else { return false }
            p += 1
        }
        return true
    }

    /// All text of an element without child elements.
    static func text(_ node: Node) throws(CloudError) -> String {
        var out = ""
        var next = node.pointee.children
        while let child = next {
            guard child.pointee.type == XML_TEXT_NODE || child.pointee.type == XML_CDATA_SECTION_NODE else {
                throw refused("an element where only text belongs")
            }
            out += string(child.pointee.content)
            next = child.pointee.next
        }
        return out
    }

    /// An attribute's value; `namespace` empty for an attribute without one.
    static func attribute(_ node: Node, _ name: String, _ namespace: String = "") -> String? {
        var next = node.pointee.properties
        while let attribute = next {
            if same(attribute.pointee.name, name) {
                let space = attribute.pointee.ns?.pointee.href
                if namespace.utf8.isEmpty ? space == nil : same(space, namespace) { return value(attribute) }
            }
            next = attribute.pointee.next
        }
        return nil
    }

    static func value(_ attribute: xmlAttrPtr) -> String {
        var out = ""
        var next = attribute.pointee.children
        while let child = next {
            out += string(child.pointee.content)
            next = child.pointee.next
        }
        return out
    }

    /// Calls `body` for every element at and under `root`, in document order, without recursion.
    static func walk(_ root: Node, _ body: (Node) throws(CloudError) -> Void) throws(CloudError) {
        var node = root
        while true {
            if node.pointee.type == XML_ELEMENT_NODE {
                try body(node)
                if let child = node.pointee.children {
                    node = child
                    continue
                }
            }
            while node != root, node.pointee.next == nil {
                guard let parent = node.pointee.parent else { return }
                node = parent
            }
            guard node != root, let next = node.pointee.next else { return }
            node = next
        }
    }

    /// One outward message for every failure; the reason is for the log.
    static func refused(_ why: String) -> CloudError { CloudError(.unauthenticated(.badSignature), context: "WS-Security: \(why)") }
}

/// Canonical XML of a subtree, in place: copying the subtree out would lose the namespaces around it.
enum Canonical {
    enum Method: Equatable {
        case exclusive(prefixes: [String])
        case inclusive
    }

    /// Too low: a large message is refused; too high: a small message with many namespaces grows on us.
    static func limit(for messageBytes: Int) -> Int { max(4_194_304, messageBytes * 8) }

    /// - Throws: when libxml2 cannot (relative namespace URIs), or the output is larger than `limit` bytes.
    static func bytes(document: xmlDocPtr, root: Node, method: Method, limit: Int) throws(CloudError) -> [UInt8] {
        let sink = Sink(limit: limit)
        // SAFETY: the sink outlives the buffer, which is closed below; the callback is called inside xmlC14NExecute and close only.
        let opaque = Unmanaged.passUnretained(sink).toOpaque()
        let buffer = xmlOutputBufferCreateIO(
            { context, bytes, count in
                guard let context, let bytes, count >= 0 else { return -1 }
                let sink = Unmanaged<Sink>.fromOpaque(context).takeUnretainedValue()
                guard sink.bytes.count + Int(count) <= sink.limit else { return -1 }
                sink.bytes.append(contentsOf: UnsafeRawBufferPointer(start: bytes, count: Int(count)))
                return count
            }, nil, opaque, nil)
        guard let buffer else { throw .bug("xmlOutputBufferCreateIO: out of memory") }
        var prefixes: [UnsafeMutablePointer<xmlChar>?] = []
        let mode: Int32
        switch method {
        case .exclusive(let list):
            mode = Int32(XML_C14N_EXCLUSIVE_1_0.rawValue)
            prefixes = list.map { xmlStrdup($0 == "#default" ? "" : $0) }
        case .inclusive: mode = Int32(XML_C14N_1_0.rawValue)
        }
        defer { for prefix in prefixes { karri_xml_free(prefix) } }
        let visible: xmlC14NIsVisibleCallback = { root, node, parent in
            // A namespace node comes as another struct in disguise, an attribute has its element as `parent`: start there.
            var at: Node? = parent
            if let node, node.pointee.type != XML_NAMESPACE_DECL, node.pointee.type != XML_ATTRIBUTE_NODE { at = node }
            while let here = at {
                if UnsafeMutableRawPointer(here) == root { return 1 }
                at = here.pointee.parent
            }
            return 0
        }
        // libxml2's error handler belongs to the thread, and any thread may be ours now; C14N knows no quiet option.
        karri_xml_silence()
        let result: Int32
        if prefixes.isEmpty {
            result = xmlC14NExecute(document, visible, root, mode, nil, 0, buffer)
        } else {
            var terminated = prefixes + [nil]
            result = xmlC14NExecute(document, visible, root, mode, &terminated, 0, buffer)
        }
        let closed = xmlOutputBufferClose(buffer)
        guard result >= 0, closed >= 0 else { throw Tree.refused("canonicalisation failed or is too large") }
        return withExtendedLifetime(sink) { sink.bytes }
    }

    private final class Sink {
        var bytes: [UInt8] = []
        let limit: Int
        init(limit: Int) {
            self.limit = limit
            bytes.reserveCapacity(2048)
        }
    }
}
