import Database

extension SchemaStore {
    /// What encrypted objects need (decision 10). `stored_md5` is the MD5 of the bytes at rest where it is not the ETag.
    static let encryption = Migration(
        30,
        """
        ALTER TABLE walrus.objects ADD encryption text, ADD stored_md5 text;
        ALTER TABLE walrus.uploads ADD encryption text;
        ALTER TABLE walrus.parts ADD stored_md5 text;
        """)
}
