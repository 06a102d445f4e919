import Database
import Domain

/// Changes of an instance's attributes, all in the caller's transaction.
enum InstanceAttributeStore {
    /// Memory and cores of the next start; the disk stays as it is.
    static func setType(_ tx: Transaction, id: String, _ type: InstanceType) throws(CloudError) {
        try tx.execute(
            "UPDATE cloud.instances SET instance_type = $2, cores = $3, memory_mib = $4 WHERE id = $1", .text(id), .text(type.name),
            SQLValue(type.cores), SQLValue(type.memoryMiB))
    }

    static func setUserData(_ tx: Transaction, id: String, _ bytes: [UInt8]) throws(CloudError) {
        try tx.execute("UPDATE cloud.instances SET user_data = $2 WHERE id = $1", .text(id), .bytes(bytes))
    }

    static func setKernel(_ tx: Transaction, id: String, _ imageID: String?) throws(CloudError) {
        try tx.execute("UPDATE cloud.instances SET kernel_id = $2 WHERE id = $1", .text(id), SQLValue(imageID))
    }

    static func setRamdisk(_ tx: Transaction, id: String, _ imageID: String?) throws(CloudError) {
        try tx.execute("UPDATE cloud.instances SET ramdisk_id = $2 WHERE id = $1", .text(id), SQLValue(imageID))
    }

    static func setTerminationProtected(_ tx: Transaction, id: String, _ on: Bool) throws(CloudError) {
        try tx.execute("UPDATE cloud.instances SET termination_protected = $2 WHERE id = $1", .text(id), .boolean(on))
    }

    static func setStopProtected(_ tx: Transaction, id: String, _ on: Bool) throws(CloudError) {
        try tx.execute("UPDATE cloud.instances SET stop_protected = $2 WHERE id = $1", .text(id), .boolean(on))
    }

    static func setShutdownBehaviour(_ tx: Transaction, id: String, _ behaviour: ShutdownBehaviour) throws(CloudError) {
        try tx.execute("UPDATE cloud.instances SET shutdown_behaviour = $2 WHERE id = $1", .text(id), .text(behaviour.rawValue))
    }

    static func setDeleteOnTermination(_ tx: Transaction, attachmentID: String, _ on: Bool) throws(CloudError) {
        try tx.execute("UPDATE cloud.attachments SET delete_on_termination = $2 WHERE id = $1", .text(attachmentID), .boolean(on))
    }

    /// How the metadata service serves it. A node learns of it by a new order, of a new generation, which changes nothing of a machine that
    /// runs; what was reported of the old order counts as reported of the new one, so that the instance does not look as if it started.
    static func setMetadata(_ tx: Transaction, id: String, tokensRequired: Bool, hopLimit: Int, enabled: Bool) throws(CloudError) {
        try tx.execute(
            """
            UPDATE cloud.instances SET tokens_required = $2, hop_limit = $3, metadata_enabled = $4,
                observed_generation = CASE WHEN desired = 'running' AND observed_generation = generation THEN generation + 1
                                      ELSE observed_generation END,
                generation = CASE WHEN desired = 'running' THEN generation + 1 ELSE generation END
            WHERE id = $1 AND finished_at IS NULL
            """, .text(id), .boolean(tokensRequired), SQLValue(hopLimit), .boolean(enabled))
        try tx.notify(NetworkStore.channel, "instance")
    }
}
