public import Database

/// The whole schema `cloud`: the controller's own tables, then those of each resource.
public enum CloudSchema {
    public static let name = CoreSchema.name
    public static var migrations: [Migration] { CoreSchema.migrations + ResourceSchema.migrations }
}
