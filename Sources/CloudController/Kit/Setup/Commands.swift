public import ArgumentParser
import Daemon

/// `karri-clc init --config F`: keys, certificates, schemas, the first account. Run again, it changes nothing.
public struct InitCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "init", abstract: "Make the cloud's keys, certificates, database schemas and first account; idempotent.")
    @OptionGroup var file: ConfigurationOption
    @Option(help: "The cloud's folder; default: the folder that keys_dir is in. The first account's files go to admin/ in it.")
    var home: String?

    public init() {}

    public func run() async throws {
        let (configuration, values) = try file.load(CloudConfiguration.self)
        try await CloudCommands(configuration, file.runtime("karri-clc", values)).initialise(home: home)
    }
}

public struct RegisterCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "register", abstract: "Make a daemon a member of the cloud; idempotent.")
    @OptionGroup var file: ConfigurationOption
    @Option(help: "cc, sc, nc or walrus") var role: String
    @Option(help: "The daemon's name; a node's is the name in its certificate.") var name: String
    @Option(help: "The availability zone; default: the configuration's.") var zone: String?
    @Option(help: "host:port") var endpoint: String

    public init() {}

    public func run() async throws {
        let (configuration, values) = try file.load(CloudConfiguration.self)
        let commands = CloudCommands(configuration, file.runtime("karri-clc", values))
        Terminal.say(try await commands.register(role: role, name: name, zone: zone, endpoint: endpoint))
    }
}

public struct DeregisterCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(commandName: "deregister", abstract: "Take a daemon out of the cloud.")
    @OptionGroup var file: ConfigurationOption
    @Option(help: "cc, sc, nc or walrus") var role: String
    @Option var name: String
    @Flag(help: "Also a node that has instances: they are given up.") var force = false

    public init() {}

    public func run() async throws {
        let (configuration, values) = try file.load(CloudConfiguration.self)
        let commands = CloudCommands(configuration, file.runtime("karri-clc", values))
        Terminal.say(try await commands.deregister(role: role, name: name, force: force))
    }
}

public struct AccountCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "account", abstract: "Accounts.", subcommands: [Create.self, List.self])

    public init() {}

    public struct List: AsyncParsableCommand {
        public static let configuration = CommandConfiguration(commandName: "list", abstract: "All accounts: id, name, since when.")
        @OptionGroup var file: ConfigurationOption

        public init() {}

        public func run() async throws {
            let (configuration, values) = try file.load(CloudConfiguration.self)
            Terminal.say(try await CloudCommands(configuration, file.runtime("karri-clc", values)).listAccounts())
        }
    }

    public struct Create: AsyncParsableCommand {
        public static let configuration = CommandConfiguration(
            commandName: "create", abstract: "Make an account and show its root credentials.")
        @OptionGroup var file: ConfigurationOption
        @Argument var name: String
        @Option(help: "A folder for credentials.env, cert.pem, pk.pem and cloud-cert.pem.") var out: String?

        public init() {}

        public func run() async throws {
            let (configuration, values) = try file.load(CloudConfiguration.self)
            Terminal.say(try await CloudCommands(configuration, file.runtime("karri-clc", values)).createAccount(name, out: out))
        }
    }
}

/// `karri-clc quota show ACCOUNT`, `karri-clc quota set ACCOUNT instances 20 --user alice`, `karri-clc quota clear ACCOUNT instances`.
public struct QuotaCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "quota", abstract: "How much an account or a user may have.", subcommands: [Show.self, Set.self, Clear.self])

    public init() {}

    public struct Show: AsyncParsableCommand {
        public static let configuration = CommandConfiguration(commandName: "show", abstract: "The quotas of an account and its users.")
        @OptionGroup var file: ConfigurationOption
        @Argument(help: "An account's id or name.") var account: String

        public init() {}

        public func run() async throws {
            let (configuration, values) = try file.load(CloudConfiguration.self)
            Terminal.say(try await CloudCommands(configuration, file.runtime("karri-clc", values)).quotas(account: account))
        }
    }

    public struct Set: AsyncParsableCommand {
        public static let configuration = CommandConfiguration(commandName: "set", abstract: "Set one quota; it counts from now on.")
        @OptionGroup var file: ConfigurationOption
        @Argument(help: "An account's id or name.") var account: String
        @Argument(help: "instances, cores, volumes, volumeGiB, snapshots, addresses, keyPairs, securityGroups or rulesPerGroup")
        var name: String
        @Argument var value: Int
        @Option(help: "Of one user: instances and cores only.") var user: String?

        public init() {}

        public func run() async throws {
            let (configuration, values) = try file.load(CloudConfiguration.self)
            let commands = CloudCommands(configuration, file.runtime("karri-clc", values))
            Terminal.say(try await commands.setQuota(account: account, user: user, name: name, value: value))
        }
    }

    public struct Clear: AsyncParsableCommand {
        public static let configuration = CommandConfiguration(commandName: "clear", abstract: "Go back to the configuration's.")
        @OptionGroup var file: ConfigurationOption
        @Argument(help: "An account's id or name.") var account: String
        @Argument var name: String
        @Option var user: String?

        public init() {}

        public func run() async throws {
            let (configuration, values) = try file.load(CloudConfiguration.self)
            let commands = CloudCommands(configuration, file.runtime("karri-clc", values))
            Terminal.say(try await commands.setQuota(account: account, user: user, name: name, value: nil))
        }
    }
}

public struct CertificateCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "certificate", abstract: "Certificates of daemons.", subcommands: [Issue.self])

    public init() {}

    public struct Issue: AsyncParsableCommand {
        public static let configuration = CommandConfiguration(
            commandName: "issue", abstract: "A key and certificate for a daemon on another host.")
        @OptionGroup var file: ConfigurationOption
        @Option(help: "clc, walrus, cc, sc or nc") var role: String
        @Option var name: String
        @Option(help: "Writes PREFIX.key and PREFIX.pem.") var outPrefix: String
        @Option(help: "An address of the host; may be repeated.") var ip: [String] = []
        @Option(help: "A name of the host; may be repeated.") var dns: [String] = []

        public init() {}

        public func run() async throws {
            let (configuration, values) = try file.load(CloudConfiguration.self)
            let commands = CloudCommands(configuration, file.runtime("karri-clc", values))
            try commands.issue(role: role, name: name, prefix: outPrefix, addresses: ip, names: dns)
        }
    }
}

public struct DatabaseCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "database", abstract: "The cloud's tables.", subcommands: [Drop.self])

    public init() {}

    /// The launcher's `erase` calls it where the database is given by a URL: a URL has a password, and this way no command line has it.
    public struct Drop: AsyncParsableCommand {
        public static let configuration = CommandConfiguration(
            commandName: "drop", abstract: "Remove Karri's schemas from the database: everything that the cloud knows. No daemon may run.")
        @OptionGroup var file: ConfigurationOption

        public init() {}

        public func run() async throws {
            let (configuration, values) = try file.load(CloudConfiguration.self)
            Terminal.say(try await CloudCommands(configuration, file.runtime("karri-clc", values)).dropSchemas())
        }
    }
}

public struct StatusCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(commandName: "status", abstract: "How the cloud is: daemons and nodes.")
    @OptionGroup var file: ConfigurationOption
    @Flag(help: "For programs.") var json = false

    public init() {}

    public func run() async throws {
        let (configuration, values) = try file.load(CloudConfiguration.self)
        Terminal.say(try await CloudCommands(configuration, file.runtime("karri-clc", values)).status(json: json))
    }
}
