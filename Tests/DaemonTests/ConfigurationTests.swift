import Daemon
import Testing

struct SampleConfiguration: DaemonConfiguration {
    static let keys: [ConfigurationKey] = [
        .required("port", .integer(1...65535), "Where to listen"),
        .standard("zone", .text, "karri-1a", "The zone"),
        .optional("network", .cidr, "The network"),
        .optional("peers", .list(.endpoint), "Peers"),
        .standard("verify", .boolean, "yes", "Verify"),
        .standard("kind", .choice(["kvm", "qemu"]), "kvm", "Kind"),
    ]
    let port: Int
    let zone: String
    let peers: [String]
    let verify: Bool

    init(_ values: ConfigurationValues) throws(ConfigurationError) {
        port = values.integer("port")
        zone = values.text("zone")
        peers = values.list("peers")
        verify = values.boolean("verify")
        if port == 666 { throw ConfigurationError(key: "port", "is not for us") }
    }
}

@Suite struct ConfigurationTests {
    private func problems(_ text: String) -> [String] {
        do {
            _ = try ConfigurationFile.parse(SampleConfiguration.self, text: text)
            return []
        } catch {
            return error.problems.map(\.description)
        }
    }

    @Test func aGoodFile() throws {
        let text = "# comment\n\nport = 8773\npeers = a:1, b:2\r\nverify=no\n log_level = debug \n"
        let (configuration, values) = try ConfigurationFile.parse(SampleConfiguration.self, text: text)
        #expect(configuration.port == 8773)
        #expect(configuration.zone == "karri-1a")
        #expect(configuration.peers == ["a:1", "b:2"])
        #expect(!configuration.verify)
        #expect(values.text("log_level") == "debug")
        #expect(values.integer("metrics_port") == 0)
    }

    @Test func everyWrongKeyIsNamedWithItsLine() {
        let found = problems(
            "prot = 1\nport = 0\nport = 5\nnetwork = 10.0.0.1/8\nnonsense\npeers = a\nkind = xen\nverify = maybe\nzzzzzzzz = 1\n")
        #expect(found.count == 9)
        #expect(found[0] == "line 1: prot: is not a key of this daemon; did you mean port?")
        #expect(found[1] == "line 2: port: must be from 1 to 65535, not 0")
        #expect(found[2] == "line 3: port: is already set in line 2")
        #expect(found[3] == "line 4: network: must be a.b.c.d/n with no bits behind the prefix, not \"10.0.0.1/8\"")
        #expect(found[4] == "line 5: not a \"key = value\" line: nonsense")
        #expect(found[5] == "line 6: peers: must be host:port, not \"a\"")
        #expect(found[6] == "line 7: kind: must be one of kvm, qemu, not \"xen\"")
        #expect(found[7] == "line 8: verify: must be yes or no, not \"maybe\"")
        #expect(found[8] == "line 9: zzzzzzzz: is not a key of this daemon")
    }

    @Test func aMissingKeyIsNamed() { #expect(problems("zone = a\n") == ["port: is missing (Where to listen)"]) }

    @Test func aRuleBetweenKeysHasItsLine() { #expect(problems("\nport = 666\n") == ["line 2: port: is not for us"]) }

    @Test func aFileThatIsNotThere() {
        #expect(throws: ConfigurationError.self) { try ConfigurationFile.load(SampleConfiguration.self, path: "/nowhere/at.all") }
    }
}
