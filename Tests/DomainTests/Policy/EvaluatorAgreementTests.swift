import Domain
import Testing

/// The evaluator against the naive one, on policies and requests out of few words, so that they often nearly match.
@Suite struct EvaluatorAgreementTests {
    /// SplitMix64: the same cases for the same seed.
    struct Dice: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var z = state
            z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
            z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
            return z ^ (z >> 31)
        }
        mutating func pick<T>(_ list: [T]) -> T { list[Int(next() % UInt64(list.count))] }
        mutating func some<T>(_ list: [T], _ most: Int = 2) -> [T] { (0..<(1 + Int(next() % UInt64(most)))).map { _ in pick(list) } }
        mutating func chance(_ one: UInt64, in many: UInt64) -> Bool { next() % many < one }
    }

    private static let actions = ["s3:Get", "s3:Put", "ec2:Run"]
    private static let actionPatterns = ["*", "s3:*", "s3:G?t", "S3:put", "ec2:*", "*:Run", "s3:Get"]
    private static let resources = ["*", "arn:aws:s3:::a/b", "arn:aws:s3:::a/bob", "arn:aws:ec2:r:1:i/*", "arn:aws:s3:::b"]
    private static let resourcePatterns = [
        "*", "arn:aws:s3:::a/*", "arn:aws:s3:::a/${aws:username}", "arn:aws:s3:::?/b", "arn:aws:*", "arn:aws:ec2:*:1:i/*",
        "arn:aws:s3:::a/${k, 'b'}", "arn:aws:s3:::${*}", "arn:aws:ec2:r:1:i/${*}",
    ]
    private static let people = ["111111111111", "222222222222"]
    private static let principals = [
        "*", "111111111111", "arn:aws:iam::111111111111:root", "arn:aws:iam::111111111111:user/bob", "arn:aws:iam::222222222222:user/bob",
    ]
    /// Kind of operator, its forms, values of policies, values of requests.
    private static let families: [(tests: [String], values: [String], actual: [String])] = [
        (
            ["StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase"],
            ["bob", "Bob", "b*", "?ob", "${aws:username}", "${k, 'x'}", "*", "${*}"], ["bob", "BOB", "eve", "b*", "x", "*"]
        ),
        (
            [
                "NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals", "NumericGreaterThan",
                "NumericGreaterThanEquals",
            ], ["1", "2", "-3"], ["1", "2", "3", "-3", "x"]
        ),
        (
            ["DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals"],
            ["2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z"],
            ["2026-01-01T00:00:00Z", "2025-01-01T00:00:00Z", "2026-07-01T12:00:00Z"]
        ),
        (["Bool"], ["true", "false"], ["true", "false", "True"]),
        (["BinaryEquals"], ["QUJD", "QQ=="], ["QUJD", "QQ==", "qujd"]),
        (
            ["IpAddress", "NotIpAddress"], ["10.0.0.0/8", "10.1.2.3", "10.1.0.0/17", "0.0.0.0/0"],
            ["10.1.2.3", "10.1.200.1", "192.168.0.1", "::1"]
        ),
        (
            ["ArnLike", "ArnEquals", "ArnNotLike", "ArnNotEquals"],
            ["arn:aws:iam::*:user/b*", "*", "arn:aws:iam::1:user/bob", "arn:*", "arn:aws:iam:*:*:*:x"],
            ["arn:aws:iam::1:user/bob", "arn:aws:iam::2:role/x", "bob", "arn:aws:iam:::1:user/bob"]
        ),
        (["Null"], ["true", "false"], ["x"]),
    ]
    private static let keys = ["k", "aws:username", "ec2:Type"]

    private static func selection(_ name: String, _ patterns: [String], _ dice: inout Dice) -> JSONValue.Member {
        let list = dice.some(patterns)
        return JSONValue.Member(
            dice.chance(1, in: 5) ? "Not" + name : name,
            list.count == 1 && dice.chance(1, in: 2) ? .string(list[0]) : .array(list.map { .string($0) }))
    }

    private static func conditions(_ dice: inout Dice) -> JSONValue {
        var members: [JSONValue.Member] = []
        for _ in 0..<(1 + Int(dice.next() % 2)) {
            let family = dice.pick(families)
            var test = dice.pick(family.tests)
            if test != "Null", dice.chance(1, in: 3) { test += "IfExists" }
            test = dice.pick(["", "", "ForAnyValue:", "ForAllValues:"]) + test
            if members.contains(where: { $0.name == test }) { continue }
            let values: JSONValue = .array(dice.some(family.values).map { .string($0) })
            members.append(JSONValue.Member(test, .object([JSONValue.Member(dice.pick(keys), values)])))
        }
        return .object(members)
    }

    private static func policy(forResource: Bool, _ dice: inout Dice) -> JSONValue {
        let statements: [JSONValue] = (0..<(1 + Int(dice.next() % 2))).map { _ in
            var members = [JSONValue.Member("Effect", dice.chance(1, in: 4) ? "Deny" : "Allow")]
            if forResource {
                let who: JSONValue =
                    dice.chance(1, in: 5) ? "*" : .object([.init("AWS", .array(dice.some(principals).map { .string($0) }))])
                members.append(JSONValue.Member(dice.chance(1, in: 6) ? "NotPrincipal" : "Principal", who))
            }
            members.append(selection("Action", actionPatterns, &dice))
            members.append(selection("Resource", resourcePatterns, &dice))
            if dice.chance(2, in: 3) { members.append(JSONValue.Member("Condition", conditions(&dice))) }
            return .object(members)
        }
        return ["Version": dice.chance(1, in: 5) ? "2008-10-17" : "2012-10-17", "Statement": .array(statements)]
    }

    private static func question(_ dice: inout Dice) -> NaivePolicyEvaluator.Question {
        let account: String? = dice.chance(1, in: 8) ? nil : dice.pick(people)
        var context: [String: [String]] = [:]
        for key in keys where dice.chance(2, in: 3) { context[key.lowercased()] = dice.some(dice.pick(families).actual) }
        return NaivePolicyEvaluator.Question(
            action: dice.pick(actions), resource: dice.pick(resources), account: account,
            arn: "arn:aws:iam::\(account ?? ""):user/\(dice.pick(["bob", "eve"]))", context: context)
    }

    @Test(arguments: [UInt64(1), 20_261_122]) func theTwoEvaluatorsAgree(seed: UInt64) throws {
        var dice = Dice(state: seed)
        let plain = try (0..<500).map { _ in
            let json = Self.policy(forResource: false, &dice)
            return (json: json, document: try PolicyDocument(json))
        }
        let resource = try (0..<200).map { _ in
            let json = Self.policy(forResource: true, &dice)
            return (json: json, document: try PolicyDocument(json, for: .resource))
        }
        var tally: [PolicyDecision: Int] = [:]
        for number in 0..<10_000 {
            let question = Self.question(&dice)
            let request = PolicyRequest(
                principal: question.account.map { PolicyPrincipal(accountID: $0, arn: question.arn) }, action: question.action,
                resource: question.resource, context: PolicyContext(question.context))
            let identity = dice.some(plain, 3)
            let boundary = dice.chance(1, in: 3) ? dice.pick(plain) : nil
            let session = dice.chance(1, in: 3) ? dice.some(plain) : nil
            let stack = PolicyStack(identity: identity.map(\.document), boundary: boundary?.document, session: session?.map(\.document))
            let (found, expected): (PolicyDecision, PolicyDecision)
            var theirs: JSONValue?
            if dice.chance(1, in: 3) {
                let policy = dice.pick(resource)
                let isOwn = dice.chance(1, in: 2)
                theirs = policy.json
                found = PolicyEvaluator.evaluate(request, stack, resourcePolicy: policy.document, isOwnAccount: isOwn)
                expected = NaivePolicyEvaluator.decide(
                    question, identity: identity.map(\.json), boundary: boundary?.json, session: session?.map(\.json),
                    resource: policy.json, isOwn: isOwn)
            } else {
                found = PolicyEvaluator.evaluate(request, stack)
                expected = NaivePolicyEvaluator.decide(
                    question, identity: identity.map(\.json), boundary: boundary?.json, session: session?.map(\.json))
            }
            tally[found, default: 0] += 1
            guard found == expected else {
                Issue.record(
                    """
                    seed \(seed), case \(number): \(found), not \(expected): \(question) \(identity.map(\.json.encoded)) \
                    boundary \(boundary?.json.encoded ?? "-") session \(session?.map(\.json.encoded) ?? []) \
                    resource \(theirs?.encoded ?? "-")
                    """)
                return
            }
        }
        // The cases are worth something: each answer is given often.
        for decision in [PolicyDecision.allowed, .explicitlyDenied, .notMentioned] { #expect(tally[decision, default: 0] > 1000) }
    }
}
