import Database

/// The tables of the resources that nothing below the controller knows of. Each resource's folder holds its own history.
enum ResourceSchema {
    static var migrations: [Migration] {
        let histories = [
            KeyPairSchema.migration, SecurityGroupSchema.migration, AddressSchema.migration, ImageSchema.migration, TagSchema.migration,
            VpcSchema.migration, InstanceSchema.migration, LaunchTemplateSchema.migration,
            SnapshotSchema.migration,
        ]
        // The first step of each, then the second of each: a new step never changes the number of an old one. Steps go by hundreds, so that
        // they lie between no two of the core's.
        return (0..<(histories.map(\.count).max() ?? 0)).map { step in
            Migration(version: 100 + step, sql: histories.compactMap { $0.count > step ? $0[step] : nil }.joined(separator: "\n"))
        }
    }
}
