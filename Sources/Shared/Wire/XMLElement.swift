/// A parsed element. Names are namespace and local name, never prefix; `text` is what stands directly in it, joined.
public struct XMLElement: Sendable, Equatable {
    public struct Attribute: Sendable, Equatable {
        public let name, namespace, value: String
        public init(name: String, namespace: String, value: String) {
            self.name = name
            self.namespace = namespace
            self.value = value
        }
    }
    public var name, namespace: String
    public var attributes: [Attribute]
    public var text: String
    public var children: [XMLElement]

    public init(
        name: String, namespace: String = "", attributes: [Attribute] = [], text: String = "", children: [XMLElement] = []
    ) {
        self.name = name
        self.namespace = namespace
        self.attributes = attributes
        self.text = text
        self.children = children
    }

    /// The first child of this local name.
    public func first(_ name: String) -> XMLElement? { children.first { $0.name == name } }
    /// The first child of this local name and namespace.
    public func first(_ name: String, namespace: String) -> XMLElement? {
        children.first { $0.name == name && $0.namespace.utf8.elementsEqual(namespace.utf8) }
    }
    public func all(_ name: String) -> [XMLElement] { children.filter { $0.name == name } }
    public func attribute(_ name: String, namespace: String = "") -> String? {
        attributes.first { $0.name == name && $0.namespace.utf8.elementsEqual(namespace.utf8) }?.value
    }

    /// Whether nothing but white space stands beside the children.
    public var hasOnlyBlankText: Bool { text.utf8.allSatisfy { $0 == 0x20 || $0 == 0x0a || $0 == 0x0d || $0 == 0x09 } }
}
