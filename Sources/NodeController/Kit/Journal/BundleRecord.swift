public import API
import Domain
import Wire

/// One bundle task of the node: order, progress, result. The parts lie in the staging folder of the task.
public struct BundleRecord: Sendable, Equatable {
    public enum State: String, Sendable { case bundling, ready, uploading, uploaded, failed }

    public let taskID: String
    public var instanceID: String
    public var imageName: String
    /// PEM, in the manifest's order.
    public var recipients: [String]
    public var state: State = .bundling
    public var error = ""
    /// Bytes of the image.
    public var size = 0
    public var bundledSize = 0
    /// SHA-1 of the tar archive, hexadecimal.
    public var digest = ""
    public var encryptedKeys: [String] = []
    public var encryptedIVs: [String] = []
    public var parts: [Part] = []
    /// The machine was paused for this task, and is to go on after it.
    public var paused = false

    public struct Part: Sendable, Equatable {
        public var filename: String
        /// SHA-1, hexadecimal.
        public var digest: String
        public var size: Int
        public var uploaded = false
        public init(filename: String, digest: String, size: Int) {
            self.filename = filename
            self.digest = digest
            self.size = size
        }
    }

    public init(taskID: String, instanceID: String, imageName: String, recipients: [String]) {
        self.taskID = taskID
        self.instanceID = instanceID
        self.imageName = imageName
        self.recipients = recipients
    }

    /// Percent, of bundling or of uploading.
    public func report(progress: Int) -> NC.BundleReport {
        NC.BundleReport(
            taskId: taskID, instanceId: instanceID, state: state.rawValue, error: error.isEmpty ? nil : error, progress: progress,
            size: size,
            bundledSize: bundledSize, digest: digest, encryptedKeys: encryptedKeys, encryptedIvs: encryptedIVs,
            parts: parts.enumerated().map { i, part in
                NC.PartReport(index: i, filename: part.filename, digest: part.digest, size: part.size, uploaded: part.uploaded)
            })
    }
}

extension BundleRecord {
    var recordValue: Value {
        .record([
            "taskId": .text(taskID), "instanceId": .text(instanceID), "imageName": .text(imageName), "recipients": .texts(recipients),
            "state": .text(state.rawValue), "error": .text(error), "size": .integer(size), "bundledSize": .integer(bundledSize),
            "digest": .text(digest), "encryptedKeys": .texts(encryptedKeys), "encryptedIvs": .texts(encryptedIVs),
            "paused": .boolean(paused),
            "parts": .list(
                parts.map {
                    .record([
                        "filename": .text($0.filename), "digest": .text($0.digest), "size": .integer($0.size),
                        "uploaded": .boolean($0.uploaded),
                    ])
                }),
        ])
    }

    init(recordValue: Value) throws(CloudError) {
        let f = try recordValue.fields()
        self.init(
            taskID: try f.text("taskId"), instanceID: try f.text("instanceId"), imageName: try f.text("imageName"),
            recipients: try f.texts("recipients"))
        let word = try f.text("state")
        guard let state = State(rawValue: word) else { throw CloudError.bug("a journal record has a bundle in state \(word)") }
        self.state = state
        error = try f.text("error")
        size = try f.integer("size")
        bundledSize = try f.integer("bundledSize")
        digest = try f.text("digest")
        encryptedKeys = try f.texts("encryptedKeys")
        encryptedIVs = try f.texts("encryptedIvs")
        paused = try f.boolean("paused")
        for value in try f.list("parts") {
            let p = try value.fields()
            var part = Part(filename: try p.text("filename"), digest: try p.text("digest"), size: try p.integer("size"))
            part.uploaded = try p.boolean("uploaded")
            parts.append(part)
        }
    }
}
