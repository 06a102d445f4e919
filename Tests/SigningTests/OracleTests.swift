import Domain
import Glibc
import Signing
import Testing

/// Another implementation's opinion of what our signer writes: the xmlsec1 tool, where it is installed.
@Suite struct OracleTests {
    static let isInstalled = access("/usr/bin/xmlsec1", X_OK) == 0

    private func write(_ bytes: [UInt8], _ path: String) throws {
        let file = try #require(fopen(path, "w"))
        defer { fclose(file) }
        #expect(fwrite(bytes, 1, bytes.count, file) == bytes.count)
    }

    @Test(.enabled(if: isInstalled), arguments: [false, true]) func xmlsec(_ internally: Bool) throws {
        let (key, certificate) = try TestKeys.pair()
        let wsa = WSSecurity.Addressing(
            to: "https://node:8775/ <&>", action: "urn:karri:nc:1#RunInstance", messageID: "urn:uuid:00112233-4455-6677-8899-aabbccddeeff",
            relatesTo: "urn:uuid:00112233-4455-6677-8899-aabbccddeeff")
        let operation = Array("<n:RunInstance xmlns:n='urn:karri:nc:1' b='2' a=\"1\"><n:id>i-1&lt;é</n:id>\n<n:e/></n:RunInstance>".utf8)
        let message = try WSSecurity.sign(
            body: operation, key: key, certificate: certificate, wsa: internally ? wsa : nil, now: Timestamp(seconds: 1_795_359_600),
            ttl: 60)
        let folder = "/tmp/karri-oracle-\(getpid())-\(internally)"
        mkdir(folder, 0o700)
        try write(message, folder + "/message.xml")
        try write(Array(certificate.pem.utf8), folder + "/certificate.pem")
        let ids =
            [
                "http://schemas.xmlsoap.org/soap/envelope/:Body",
                "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd:Timestamp",
            ] + ["To", "Action", "MessageID", "RelatesTo"].map { "http://www.w3.org/2005/08/addressing:\($0)" }
        let options = ids.map { "--id-attr:Id \($0)" }.joined(separator: " ")
        let command = "xmlsec1 --verify \(options) --pubkey-cert-pem \(folder)/certificate.pem"
        #expect(system("\(command) \(folder)/message.xml >\(folder)/log 2>&1") == 0)
        // And it does look: a changed body is refused by it as well.
        let changed = String(decoding: message, as: UTF8.self).replacing("i-1&lt;", with: "i-2&lt;")
        try write(Array(changed.utf8), folder + "/changed.xml")
        #expect(system("\(command) \(folder)/changed.xml >>\(folder)/log 2>&1") != 0)
        for name in ["message.xml", "changed.xml", "certificate.pem", "log"] { unlink("\(folder)/\(name)") }
        rmdir(folder)
    }
}
