public import API
import Database
public import Domain
import Workflow

extension EC2Actions: EC2KeyPairsActions {
    public func createKeyPair(_ request: EC2.CreateKeyPair, _ op: OperationContext) async throws(CloudError) -> EC2.CreateKeyPairResponse {
        try KeyPairRules.checkName(request.keyName)
        let tags = try TagRules.onCreate(request.tagSpecifications, of: [.keyPair])[.keyPair] ?? []
        try op.endDryRun(request.dryRun)
        let made = try KeyPairRules.create(type: request.keyType ?? "rsa", name: request.keyName)
        let key = KeyPair(
            id: KeyPairID(random: cloud.random.bytes(9)), accountID: op.accountID, name: request.keyName, type: made.type,
            fingerprint: made.fingerprint, publicKey: made.publicKey, createdAt: op.now)
        try await keyPairStore(key, tags, op, action: "CreateKeyPair")
        return EC2.CreateKeyPairResponse(
            keyName: key.name, keyFingerprint: key.fingerprint, keyMaterial: made.privateKey, keyPairId: key.id.text, tags: tags.map(\.wire)
        )
    }

    public func importKeyPair(_ request: EC2.ImportKeyPair, _ op: OperationContext) async throws(CloudError) -> EC2.ImportKeyPairResponse {
        try KeyPairRules.checkName(request.keyName)
        let tags = try TagRules.onCreate(request.tagSpecifications, of: [.keyPair])[.keyPair] ?? []
        let parsed = try KeyPairRules.parseImported(request.publicKeyMaterial, name: request.keyName)
        try op.endDryRun(request.dryRun)
        let key = KeyPair(
            id: KeyPairID(random: cloud.random.bytes(9)), accountID: op.accountID, name: request.keyName, type: parsed.type,
            fingerprint: parsed.fingerprint, publicKey: parsed.publicKey, createdAt: op.now)
        try await keyPairStore(key, tags, op, action: "ImportKeyPair")
        return EC2.ImportKeyPairResponse(
            keyName: key.name, keyFingerprint: key.fingerprint, keyPairId: key.id.text, tags: tags.map(\.wire))
    }

    public func deleteKeyPair(_ request: EC2.DeleteKeyPair, _ op: OperationContext) async throws(CloudError) -> EC2.DeleteKeyPairResponse {
        guard request.keyName == nil || request.keyPairId == nil else {
            throw CloudError(.invalidCombination("KeyName and KeyPairId cannot both be given"))
        }
        guard request.keyName != nil || request.keyPairId != nil else { throw CloudError(.missingParameter("KeyName")) }
        var id: KeyPairID?
        if let text = request.keyPairId { id = try KeyPairID(parsing: text) }
        let (wantedID, name) = (id, request.keyName ?? "")
        let gone = try await cloud.pool.transaction { tx -> String? in
            let found =
                if let wantedID { try KeyPairStore.find(tx, id: wantedID, accountID: op.accountID) } else {
                    try KeyPairStore.find(tx, name: name, accountID: op.accountID)
                }
            try op.endDryRun(request.dryRun)
            guard let found else { return nil }
            try KeyPairStore.delete(tx, id: found.id)
            try AuditStore.record(tx, op, action: "DeleteKeyPair", resource: found.id.text, detail: found.name)
            return found.id.text
        }
        return EC2.DeleteKeyPairResponse(result: true, keyPairId: gone)
    }

    public func describeKeyPairs(
        _ request: EC2.DescribeKeyPairs, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeKeyPairsResponse {
        let filters = try Filters(request.filters, known: KeyPairRules.filters)
        for text in request.keyPairIds { _ = try KeyPairID(parsing: text) }
        try op.endDryRun(request.dryRun)
        let (keys, tags) = try await cloud.pool.read { tx in
            let keys = try KeyPairStore.list(tx, accountID: op.accountID)
            return (keys, try TagStore.tags(tx, keys.map(\.id.text)))
        }
        if let name = request.keyNames.first(where: { name in !keys.contains { $0.name == name } }) {
            throw CloudError(.notFound(.keyPair, id: name))
        }
        if let id = request.keyPairIds.first(where: { id in !keys.contains { $0.id.text == id } }) {
            throw CloudError(.notFound(.keyPair, id: id))
        }
        let found = keys.filter { key in
            let named = request.keyNames.isEmpty && request.keyPairIds.isEmpty
            return (named || request.keyNames.contains(key.name) || request.keyPairIds.contains(key.id.text))
                && filters.match(tags: (tags[key.id.text] ?? []).byKey) { KeyPairRules.values(key, $0) }
        }
        return EC2.DescribeKeyPairsResponse(
            keyPairs: found.map { key in
                EC2.KeyPairInfo(
                    keyName: key.name, keyFingerprint: key.fingerprint, keyPairId: key.id.text, keyType: key.type,
                    tags: (tags[key.id.text] ?? []).map(\.wire), publicKey: request.includePublicKey == true ? key.publicKey : nil,
                    createTime: key.createdAt)
            })
    }

    private func keyPairStore(_ key: KeyPair, _ tags: [ResourceTag], _ op: OperationContext, action: String) async throws(CloudError) {
        let settings = cloud.settings
        try await cloud.pool.transaction { tx in
            let limit = try settings.quotas(tx, accountID: op.accountID).keyPairs
            try KeyPairStore.insert(tx, key, limit: limit)
            try TagStore.insert(tx, accountID: op.accountID, resourceID: key.id.text, type: .keyPair, tags)
            try AuditStore.record(tx, op, action: action, resource: key.id.text, detail: key.name)
        }
    }
}
