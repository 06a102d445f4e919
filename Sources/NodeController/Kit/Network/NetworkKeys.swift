import Daemon

extension NodeConfiguration {
    /// Keys of `nc.conf` that the network and the metadata service read (from `NodeConfiguration.values`).
    static var networkKeys: [ConfigurationKey] {
        [
            .standard("network_run_dir", .path, "/run/karri", "Files of the DHCP server; its own user must be able to enter this folder"),
            .standard("metadata_port", .integer(0...65535), "80", "Port of the metadata service on 169.254.169.254"),
        ]
    }

    /// What the node's network is called and made of.
    public var networkSettings: NetworkSettings {
        NetworkSettings(bridge: bridge, mtu: mtu, runFolder: values.text("network_run_dir"))
    }

    /// Where the network keeps what must outlive the daemon.
    public var networkStorage: FileJournalStorage { FileJournalStorage(root: dataFolder + "/journal") }
}
