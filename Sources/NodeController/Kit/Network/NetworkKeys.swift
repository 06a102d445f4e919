import Daemon

extension NodeConfiguration {
    /// Keys of `nc.conf` that the network and the metadata service read (from `NodeConfiguration.values`).
    static var networkKeys: [ConfigurationKey] { [] }
}
