import Daemon
import Domain
import Wire

/// The XML that S3 speaks: namespace, owners, ACLs, tags, errors.
enum S3Document {
    static let namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
    private static let instance = "http://www.w3.org/2001/XMLSchema-instance"

    /// A document with this root.
    static func make(_ root: String, capacity: Int = 1024, _ body: (inout XMLWriter) throws -> Void) rethrows -> [UInt8] {
        var xml = XMLWriter(capacity: capacity)
        xml.declaration()
        xml.open(root, attributes: [("xmlns", namespace)])
        try body(&xml)
        xml.close()
        return xml.bytes
    }

    /// A document without a namespace.
    static func bare(_ root: String, _ body: (inout XMLWriter) -> Void) -> [UInt8] {
        var xml = XMLWriter(capacity: 512)
        xml.declaration()
        xml.open(root)
        body(&xml)
        xml.close()
        return xml.bytes
    }

    static func reply(_ root: String, capacity: Int = 1024, _ body: (inout XMLWriter) throws -> Void) rethrows -> HTTPReply {
        HTTPReply(status: 200, headers: [("Content-Type", "application/xml")], body: .bytes(try make(root, capacity: capacity, body)))
    }

    static func owner(_ xml: inout XMLWriter, _ owner: OwnerNames, element: String = "Owner") {
        xml.open(element)
        xml.element("ID", owner.id)
        xml.element("DisplayName", owner.displayName)
        xml.close()
    }

    /// Quotes stand in the ETag as characters.
    static func etag(_ xml: inout XMLWriter, _ etag: String) { xml.element("ETag", "\"\(etag)\"") }

    static func accessControl(_ owner: OwnerNames, _ acl: AccessControlList, names: [String: OwnerNames]) -> [UInt8] {
        make("AccessControlPolicy") { xml in
            Self.owner(&xml, owner)
            xml.open("AccessControlList")
            // Groups first, as canned ACLs have them and clients expect.
            let isGroup = { (g: AccessControlList.Grant) in g.grantee.uri != nil }
            for grant in acl.grants.filter(isGroup) + acl.grants.filter({ !isGroup($0) }) {
                xml.open("Grant")
                switch grant.grantee {
                case .canonicalUser(let id):
                    xml.open("Grantee", attributes: [("xmlns:xsi", instance), ("xsi:type", "CanonicalUser")])
                    xml.element("ID", id)
                    xml.element("DisplayName", names[id]?.displayName ?? "")
                case .allUsers, .authenticatedUsers, .logDelivery:
                    xml.open("Grantee", attributes: [("xmlns:xsi", instance), ("xsi:type", "Group")])
                    xml.element("URI", grant.grantee.uri ?? "")
                }
                xml.close()
                xml.element("Permission", grant.permission.rawValue)
                xml.close()
            }
            xml.close()
        }
    }

    static func tagging(_ tags: [(name: String, value: String)]) -> [UInt8] {
        make("Tagging") { xml in
            xml.open("TagSet")
            for tag in tags {
                xml.open("Tag")
                xml.element("Key", tag.name)
                xml.element("Value", tag.value)
                xml.close()
            }
            xml.close()
        }
    }

    /// The error document. It has no namespace (S3 API reference, "REST error responses").
    static func error(code: String, message: String, resource: String, requestID: String, extra: [(String, String)]) -> [UInt8] {
        var xml = XMLWriter(capacity: 512)
        xml.declaration()
        xml.open("Error")
        xml.element("Code", code)
        xml.element("Message", message)
        for (name, value) in extra { xml.element(name, value) }
        xml.element("Resource", resource)
        xml.element("RequestId", requestID)
        xml.element("HostId", "walrus")
        xml.close()
        return xml.bytes
    }

    /// - Throws: `MalformedXML` for anything that is not a document with this root.
    static func parse(_ bytes: [UInt8], root: String, limits: XMLLimits = XMLLimits()) throws(CloudError) -> XMLElement {
        let element: XMLElement
        do throws(CloudError) { element = try XMLReader.parse(bytes, limits: limits) } catch {
            if case .requestTooLarge = error.reason { throw error }
            throw S3Failure.malformedXML(error.message)
        }
        guard element.name == root else { throw S3Failure.malformedXML("the root is \(element.name), not \(root)") }
        return element
    }
}

/// How an account is shown as an owner.
struct OwnerNames: Sendable, Equatable {
    /// The canonical user id.
    let id: String
    let displayName: String
}

enum S3Encoding {
    /// Percent-encoding of `encoding-type=url`: unreserved characters and the slash stay.
    static func url(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var out: [UInt8] = []
        out.reserveCapacity(bytes.count)
        for b in bytes {
            switch b {
            case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x2f, 0x5f, 0x7e: out.append(b)
            default: out += [0x25, digits[Int(b >> 4)], digits[Int(b & 15)]]
            }
        }
        return String(decoding: out, as: UTF8.self)
    }
}
