import Domain
import Testing

private func policy(_ statements: String, version: String = "2012-10-17") throws -> PolicyDocument {
    try PolicyDocument(parsing: #"{"Version":"\#(version)","Statement":\#(statements)}"#)
}
private func decide(_ document: PolicyDocument, _ action: String, _ resource: String, _ context: PolicyContext = [:]) -> PolicyDecision {
    PolicyEvaluator.evaluate(PolicyRequest(principal: nil, action: action, resource: resource, context: context), [document])
}

@Suite struct PolicyDocumentTests {
    @Test(arguments: [
        ("", "not valid JSON"), ("[]", "JSON object"), ("{}", "Statement"), (#"{"Statement":[]}"#, "Statement"),
        (#"{"Version":"2020-01-01","Statement":[]}"#, "Version"), (#"{"Statement":{},"X":1}"#, "Unknown element X"),
        (#"{"Statement":{"Effect":"allow","Action":"*","Resource":"*"}}"#, "Effect"),
        (#"{"Statement":{"Effect":"Allow","Resource":"*"}}"#, "Action"),
        (#"{"Statement":{"Effect":"Allow","Action":"*"}}"#, "Resource"),
        (#"{"Statement":{"Effect":"Allow","Action":"ec2","Resource":"*"}}"#, "service:Name"),
        (#"{"Statement":{"Effect":"Allow","Action":[],"Resource":"*"}}"#, "empty"),
        (#"{"Statement":{"Effect":"Allow","Action":1,"Resource":"*"}}"#, "string"),
        (#"{"Statement":{"Effect":"Allow","Action":"*","NotAction":"*","Resource":"*"}}"#, "both"),
        (#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"bucket"}}"#, "ARN"),
        (#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"}}"#, "principals"),
        (#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Foo":1}}"#, "unknown element Foo"),
        (#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringIs":{"a":"b"}}}}"#, "StringIs"),
        (#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"a":"10.0.0.0/33"}}}}"#, "10.0.0.0/33"),
        (#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NumericEquals":{"a":"x"}}}}"#, "NumericEquals"),
        (
            #"{"Statement":[{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"},{"Sid":"a","Effect":"Deny","Action":"*","Resource":"*"}]}"#,
            "unique"
        ),
    ])
    func whatIsWrongIsNamed(text: String, expected: String) {
        let error = #expect(throws: CloudError.self) { try PolicyDocument(parsing: text) }
        #expect(error?.reason == .named(code: "MalformedPolicyDocument", status: 400))
        #expect(error?.message.contains(expected) == true, "\(error?.message ?? "")")
    }

    @Test func resourcePoliciesNamePrincipals() throws {
        let text = #"{"Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}}"#
        #expect(throws: CloudError.self) { try PolicyDocument(parsing: text, for: .resource) }
        #expect(throws: CloudError.self) {
            try PolicyDocument(
                parsing: #"{"Statement":{"Effect":"Allow","Principal":{"AWS":"bob"},"Action":"s3:*","Resource":"*"}}"#, for: .resource)
        }
    }
}

@Suite struct PolicyEvaluatorTests {
    @Test func nothingIsAllowedUnlessSaid() throws {
        let document = try policy(#"{"Effect":"Allow","Action":["ec2:Describe*","s3:get?bject"],"Resource":"*"}"#)
        #expect(decide(document, "ec2:DescribeInstances", "*") == .allowed)
        #expect(decide(document, "EC2:describeinstances", "*") == .allowed)
        #expect(decide(document, "s3:GetObject", "arn:aws:s3:::b/k") == .allowed)
        #expect(decide(document, "ec2:RunInstances", "*") == .notMentioned)
        #expect(PolicyEvaluator.evaluate(PolicyRequest(principal: nil, action: "a:B", resource: "*"), []) == .notMentioned)
    }

    @Test func aDenyWinsWhereverItStands() throws {
        let allow = try policy(#"{"Effect":"Allow","Action":"*","Resource":"*"}"#)
        let deny = try policy(#"{"Effect":"Deny","Action":"ec2:TerminateInstances","Resource":"arn:aws:ec2:*:*:instance/i-1*"}"#)
        let request = PolicyRequest(principal: nil, action: "ec2:TerminateInstances", resource: "arn:aws:ec2:karri-1:1:instance/i-123")
        for order in [[allow, deny], [deny, allow]] { #expect(PolicyEvaluator.evaluate(request, order) == .explicitlyDenied) }
        #expect(decide(deny, "ec2:TerminateInstances", "arn:aws:ec2:karri-1:1:instance/i-2") == .notMentioned)
    }

    @Test func everythingBut() throws {
        let document = try policy(#"{"Effect":"Allow","NotAction":"iam:*","NotResource":"arn:aws:s3:::secret/*"}"#)
        #expect(decide(document, "s3:GetObject", "arn:aws:s3:::open/x") == .allowed)
        #expect(decide(document, "s3:GetObject", "arn:aws:s3:::secret/x") == .notMentioned)
        #expect(decide(document, "iam:GetUser", "arn:aws:s3:::open/x") == .notMentioned)
    }

    @Test func variables() throws {
        let own = #"{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::homes/${aws:username}/*"}"#
        let document = try policy(own)
        #expect(decide(document, "s3:GetObject", "arn:aws:s3:::homes/bob/x", ["aws:username": "bob"]) == .allowed)
        #expect(decide(document, "s3:GetObject", "arn:aws:s3:::homes/eve/x", ["aws:username": "bob"]) == .notMentioned)
        #expect(decide(document, "s3:GetObject", "arn:aws:s3:::homes/eve/x", ["AWS:UserName": "*"]) == .notMentioned)
        #expect(decide(document, "s3:GetObject", "arn:aws:s3:::homes/*/x", ["aws:username": "*"]) == .allowed)
        #expect(decide(document, "s3:GetObject", "arn:aws:s3:::homes//x") == .notMentioned)
        // Only in the newer version; `${*}` is the character.
        #expect(
            decide(try policy(own, version: "2008-10-17"), "s3:GetObject", "arn:aws:s3:::homes/bob/x", ["aws:username": "bob"])
                == .notMentioned)
        let star = try policy(#"{"Effect":"Allow","Action":"*","Resource":"arn:x${*}"}"#)
        #expect(decide(star, "a:B", "arn:x*") == .allowed)
        #expect(decide(star, "a:B", "arn:xy") == .notMentioned)
        let standard = try policy(#"{"Effect":"Allow","Action":"*","Resource":"arn:${aws:x, 'none'}"}"#)
        #expect(decide(standard, "a:B", "arn:none") == .allowed)
        // Everything but somebody unknown: may deny, must not allow.
        let but = #""Action":"*","NotResource":"arn:aws:s3:::homes/${aws:username}/*""#
        #expect(decide(try policy(#"{"Effect":"Allow",\#(but)}"#), "s3:X", "arn:aws:s3:::y") == .notMentioned)
        #expect(decide(try policy(#"{"Effect":"Deny",\#(but)}"#), "s3:X", "arn:aws:s3:::y") == .explicitlyDenied)
    }

    @Test func principals() throws {
        func decide(_ principal: String, _ who: PolicyPrincipal?) throws -> PolicyDecision {
            let document = try PolicyDocument(
                parsing: #"{"Statement":{"Effect":"Allow",\#(principal),"Action":"s3:*","Resource":"*"}}"#, for: .resource)
            return PolicyEvaluator.evaluate(PolicyRequest(principal: who, action: "s3:GetObject", resource: "*"), [document])
        }
        let bob = PolicyPrincipal(accountID: "111122223333", arn: "arn:aws:iam::111122223333:user/bob", canonicalUserID: "abc")
        #expect(try decide(#""Principal":"*""#, nil) == .allowed)
        #expect(try decide(#""Principal":{"AWS":"*"}"#, bob) == .allowed)
        #expect(try decide(#""Principal":{"AWS":"111122223333"}"#, bob) == .allowed)
        #expect(try decide(#""Principal":{"AWS":["arn:aws:iam::111122223333:root"]}"#, bob) == .allowed)
        #expect(try decide(#""Principal":{"AWS":"arn:aws:iam::111122223333:user/bob"}"#, bob) == .allowed)
        #expect(try decide(#""Principal":{"AWS":"arn:aws:iam::111122223333:user/*"}"#, bob) == .notMentioned)
        #expect(try decide(#""Principal":{"AWS":"444455556666"}"#, bob) == .notMentioned)
        #expect(try decide(#""Principal":{"CanonicalUser":"abc"}"#, bob) == .allowed)
        #expect(try decide(#""Principal":{"AWS":"111122223333"}"#, nil) == .notMentioned)
        #expect(try decide(#""NotPrincipal":{"AWS":"111122223333"}"#, bob) == .notMentioned)
        #expect(try decide(#""NotPrincipal":{"AWS":"444455556666"}"#, bob) == .allowed)
    }

    @Test(arguments: [
        (#"{"StringEquals":{"k":["a","b"]}}"#, ["b"], true), (#"{"StringEquals":{"k":"a"}}"#, ["A"], false),
        (#"{"StringEquals":{"k":"a*"}}"#, ["ab"], false), (#"{"StringEquals":{"k":"a"}}"#, [], false),
        (#"{"StringEqualsIfExists":{"k":"a"}}"#, [], true), (#"{"StringEqualsIfExists":{"k":"a"}}"#, ["b"], false),
        (#"{"StringNotEquals":{"k":["a","b"]}}"#, ["c"], true), (#"{"StringNotEquals":{"k":["a","b"]}}"#, ["a"], false),
        (#"{"StringNotEquals":{"k":"a"}}"#, [], true), (#"{"StringEqualsIgnoreCase":{"k":"a"}}"#, ["A"], true),
        (#"{"StringLike":{"k":"a?c*"}}"#, ["abcd"], true), (#"{"StringNotLike":{"k":"a*"}}"#, ["abcd"], false),
        (#"{"NumericLessThan":{"k":"10"}}"#, ["9.5"], true), (#"{"NumericLessThan":{"k":10}}"#, ["10"], false),
        (#"{"NumericGreaterThanEquals":{"k":10}}"#, ["10"], true), (#"{"NumericEquals":{"k":10}}"#, ["ten"], false),
        (#"{"NumericNotEquals":{"k":10}}"#, ["11"], true),
        (#"{"DateGreaterThan":{"k":"2026-01-01T00:00:00Z"}}"#, ["2026-06-01T00:00:00Z"], true),
        (#"{"DateLessThan":{"k":"1000000000"}}"#, ["2026-06-01T00:00:00Z"], false),
        (#"{"Bool":{"k":true}}"#, ["true"], true), (#"{"Bool":{"k":"true"}}"#, ["false"], false), (#"{"Bool":{"k":"false"}}"#, [], false),
        (#"{"IpAddress":{"k":"10.1.0.0/16"}}"#, ["10.1.200.3"], true), (#"{"IpAddress":{"k":["10.1.0.0/16"]}}"#, ["10.2.0.1"], false),
        (#"{"NotIpAddress":{"k":"10.1.0.0/16"}}"#, ["10.2.0.1"], true),
        (#"{"IpAddress":{"k":"2001:db8::/32"}}"#, ["2001:db8:0:1::7"], true),
        (#"{"IpAddress":{"k":"2001:db8::/32"}}"#, ["10.1.0.1"], false), (#"{"IpAddress":{"k":"0.0.0.0/0"}}"#, ["bogus"], false),
        (#"{"ArnLike":{"k":"arn:aws:iam::*:user/*"}}"#, ["arn:aws:iam::1:user/bob"], true),
        (#"{"ArnEquals":{"k":"arn:aws:*:user/bob"}}"#, ["arn:aws:iam::1:user/bob"], false),
        (#"{"ArnNotLike":{"k":"arn:aws:iam::1:*"}}"#, ["arn:aws:iam::2:user/bob"], true),
        (#"{"Null":{"k":"true"}}"#, [], true), (#"{"Null":{"k":"false"}}"#, [], false), (#"{"Null":{"k":false}}"#, ["x"], true),
        (#"{"ForAllValues:StringEquals":{"k":["a","b"]}}"#, ["a", "b"], true),
        (#"{"ForAllValues:StringEquals":{"k":"a"}}"#, ["a", "c"], false),
        (#"{"ForAllValues:StringEquals":{"k":"a"}}"#, [], true), (#"{"ForAnyValue:StringEquals":{"k":"a"}}"#, ["c", "a"], true),
        (#"{"ForAnyValue:StringEquals":{"k":"a"}}"#, [], false), (#"{"StringEquals":{"k":"${other}"}}"#, ["me"], true),
        (#"{"StringEquals":{"k":"a"},"Bool":{"missing":"true"}}"#, ["a"], false),
    ])
    func conditions(condition: String, values: [String], expected: Bool) throws {
        let document = try policy(#"{"Effect":"Allow","Action":"*","Resource":"*","Condition":\#(condition)}"#)
        var context: PolicyContext = ["other": "me"]
        context["K"] = values
        #expect(decide(document, "a:B", "*", context) == (expected ? .allowed : .notMentioned), "\(condition) of \(values)")
    }
}

/// The evaluator against one that is written as the manual says it, without any cleverness, on random policies over a tiny alphabet.
@Suite struct PolicyPropertyTests {
    private struct Generator {
        var state: UInt64
        mutating func next(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(bound))
        }
        mutating func word(_ alphabet: String, _ longest: Int) -> String {
            let letters = Array(alphabet)
            return String((0..<next(longest + 1)).map { _ in letters[next(letters.count)] })
        }
    }
    private struct Plain {
        var allow: Bool
        var actions: [String], notAction: Bool
        var resources: [String], notResource: Bool
        var conditions: [(operator: String, key: String, values: [String])]
    }

    /// Every way to split: exponential, obviously right.
    private func glob(_ pattern: Substring, _ text: Substring) -> Bool {
        guard let first = pattern.first else { return text.isEmpty }
        let rest = pattern.dropFirst()
        switch first {
        case "*": return glob(rest, text) || (!text.isEmpty && glob(pattern, text.dropFirst()))
        case "?": return !text.isEmpty && glob(rest, text.dropFirst())
        default: return text.first == first && glob(rest, text.dropFirst())
        }
    }

    private func naive(_ policies: [[Plain]], _ action: String, _ resource: String, _ context: [String: [String]]) -> PolicyDecision {
        func applies(_ s: Plain) -> Bool {
            guard s.actions.contains(where: { glob($0.lowercased()[...], action.lowercased()[...]) }) != s.notAction else { return false }
            guard s.resources.contains(where: { glob($0[...], resource[...]) }) != s.notResource else { return false }
            for condition in s.conditions {
                let actual = context[condition.key] ?? []
                let isIn = actual.contains { value in
                    condition.values.contains { condition.operator.contains("Like") ? glob($0[...], value[...]) : $0 == value }
                }
                if condition.operator.contains("Not") == isIn { return false }
            }
            return true
        }
        let all = policies.flatMap { $0 }.filter(applies)
        if all.contains(where: { !$0.allow }) { return .explicitlyDenied }
        return all.isEmpty ? .notMentioned : .allowed
    }

    private func json(_ statements: [Plain]) -> String {
        func list(_ items: [String]) -> String { "[" + items.map { "\"\($0)\"" }.joined(separator: ",") + "]" }
        let texts = statements.map { s in
            let conditions = s.conditions.map { #""\#($0.operator)":{"\#($0.key)":\#(list($0.values))}"# }.joined(separator: ",")
            return #"{"Effect":"\#(s.allow ? "Allow" : "Deny")","\#(s.notAction ? "NotAction" : "Action")":\#(list(s.actions)),"#
                + #""\#(s.notResource ? "NotResource" : "Resource")":\#(list(s.resources)),"Condition":{\#(conditions)}}"#
        }
        return #"{"Version":"2012-10-17","Statement":[\#(texts.joined(separator: ","))]}"#
    }

    @Test func agreesWithTheNaiveEvaluator() throws {
        var seen: [PolicyDecision: Int] = [:]
        for seed in 0..<4000 {
            var g = Generator(state: UInt64(seed) &* 7919 &+ 17)
            let operators = ["StringEquals", "StringNotEquals", "StringLike", "StringNotLike"]
            let policies = (0..<(1 + g.next(2))).map { _ in
                (0..<(1 + g.next(3))).map { _ in
                    Plain(
                        allow: g.next(3) > 0, actions: (0..<(1 + g.next(2))).map { _ in "s:a" + g.word("ab*?", 3) },
                        notAction: g.next(5) == 0,
                        resources: (0..<(1 + g.next(2))).map { _ in "arn:" + g.word("ab*?", 4) }, notResource: g.next(5) == 0,
                        conditions: g.next(2) == 0
                            ? [] : [(operators[g.next(4)], "k\(g.next(2))", (0..<(1 + g.next(2))).map { _ in g.word("ab*?", 2) })])
                }
            }
            let documents = try policies.map { try PolicyDocument(parsing: json($0)) }
            let action = "S:A" + g.word("aB", 3)
            let resource = "arn:" + g.word("ab", 4)
            var context: [String: [String]] = [:]
            for key in 0..<2 where g.next(3) > 0 { context["k\(key)"] = [g.word("ab", 2)] }
            let expected = naive(policies, action, resource, context)
            let request = PolicyRequest(principal: nil, action: action, resource: resource, context: PolicyContext(context))
            #expect(
                PolicyEvaluator.evaluate(request, documents) == expected,
                "seed \(seed): \(policies.map(json)) \(action) \(resource) \(context)")
            seen[expected, default: 0] += 1
        }
        #expect(seen.values.allSatisfy { $0 > 200 } && seen.count == 3, "\(seen)")
    }

    /// A pattern made to be slow is not.
    @Test(.timeLimit(.minutes(1))) func longPatternsAreQuick() throws {
        let pattern = String(repeating: "a*", count: 1000) + "b"
        let document = try PolicyDocument(parsing: #"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*\#(pattern)"}}"#)
        let text = String(repeating: "a", count: 20_000)
        let request = PolicyRequest(principal: nil, action: "a:B", resource: text)
        #expect(PolicyEvaluator.evaluate(request, [document]) == .notMentioned)
    }
}
