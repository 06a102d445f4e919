import Domain
import Identity
import Signing

/// Why a request was refused, in full, for those who may know: sealed, so that the refusal itself tells the refused nothing. Decoded by
/// `sts:DecodeAuthorizationMessage`. Source: STS API Reference, DecodeAuthorizationMessage.
enum AuthorizationMessage {
    /// Longer ones lose their conditions: a request may have 10,000 tags.
    private static let limit = 4096

    static func encode(
        _ caller: AuthenticatedCaller, action: String, resource: String, context: PolicyContext, key: [UInt8]
    ) throws(CloudError) -> String {
        let question = Authorizer.question(caller, action: action, resource: resource, context: context)
        let decision = Authorizer.decide(caller, action: action, resource: resource, context: context)
        let conditions: [JSONValue] = question.context.names.map { name in
            ["key": .string(name), "values": ["items": .array(question.context[name].map { ["value": .string($0)] })]]
        }
        func message(_ conditions: [JSONValue]) -> JSONValue {
            [
                "allowed": false, "explicitDeny": .boolean(decision == .explicitlyDenied), "matchedStatements": ["items": []],
                "failures": ["items": []],
                "context": [
                    "principal": ["id": .string(caller.principal.userID), "arn": .string(caller.principal.arn)],
                    "action": .string(action), "resource": .string(resource), "conditions": ["items": .array(conditions)],
                ],
            ]
        }
        var text = message(conditions).encoded
        if text.utf8.count > limit { text = message([]).encoded }
        let sealed = try AES.seal(Array(text.utf8), key: key, context: Array(caller.principal.accountID.utf8))
        return WebToken.base64URL(encode: sealed)
    }

    /// `nil` for what we did not write, or wrote for another account.
    static func open(_ text: String, account: String, key: [UInt8]) -> String? {
        guard let sealed = WebToken.base64URL(text), let plain = try? AES.open(sealed, key: key, context: Array(account.utf8)) else {
            return nil
        }
        return String(decoding: plain, as: UTF8.self)
    }
}
