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

@Suite struct PolicyCostTests {
    /// A pattern made to be slow is not.
    @Test(.timeLimit(.minutes(1))) func longPatternsAreQuick() throws {
        let pattern = String(repeating: "a*", count: 1000) + "b"
        let document = try PolicyDocument(parsing: #"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*\#(pattern)"}}"#)
        let text = String(repeating: "a", count: 20_000)
        let request = PolicyRequest(principal: nil, action: "a:B", resource: text)
        #expect(PolicyEvaluator.evaluate(request, [document]) == .notMentioned)
    }
}

@Suite struct PolicyStackTests {
    private func document(_ effect: String, _ action: String) throws -> PolicyDocument {
        try PolicyDocument(parsing: #"{"Statement":{"Effect":"\#(effect)","Action":"\#(action)","Resource":"*"}}"#)
    }
    private let request = PolicyRequest(
        principal: PolicyPrincipal(
            accountID: "111111111111", arn: "arn:aws:sts::111111111111:assumed-role/r/s", roleARN: "arn:aws:iam::111111111111:role/r"),
        action: "s3:GetObject", resource: "arn:aws:s3:::b/k")

    @Test func eachKindMustAllow() throws {
        let all = try document("Allow", "*")
        let other = try document("Allow", "ec2:*")
        let deny = try document("Deny", "s3:*")
        func decide(_ identity: [PolicyDocument], _ boundary: PolicyDocument?, _ session: [PolicyDocument]?) -> PolicyDecision {
            PolicyEvaluator.evaluate(request, PolicyStack(identity: identity, boundary: boundary, session: session))
        }
        #expect(decide([all], nil, nil) == .allowed)
        #expect(decide([all], all, [all]) == .allowed)
        #expect(decide([all], other, nil) == .notMentioned)
        #expect(decide([all], nil, [other]) == .notMentioned)
        // A session without policies may do nothing; one that was given none is not bounded.
        #expect(decide([all], nil, []) == .notMentioned)
        #expect(decide([], all, [all]) == .notMentioned)
        #expect(decide([all], deny, nil) == .explicitlyDenied)
        #expect(decide([all], nil, [all, deny]) == .explicitlyDenied)
        #expect(decide([all], PolicyDocument.none, nil) == .notMentioned)
    }

    @Test func aResourceGivesBeyondTheBoundaryOnlyByName() throws {
        func grant(_ who: String) throws -> PolicyDocument {
            try PolicyDocument(
                parsing: #"{"Statement":{"Effect":"Allow","Principal":{"AWS":"\#(who)"},"Action":"s3:*","Resource":"*"}}"#, for: .resource)
        }
        let bounded = PolicyStack(identity: [], boundary: try document("Allow", "ec2:*"))
        for (who, expected) in [
            ("111111111111", PolicyDecision.notMentioned), ("arn:aws:iam::111111111111:role/r", .notMentioned),
            ("arn:aws:sts::111111111111:assumed-role/r/s", .allowed), ("*", .notMentioned),
        ] {
            let found = PolicyEvaluator.evaluate(request, bounded, resourcePolicy: try grant(who), isOwnAccount: true)
            #expect(found == expected, "\(who)")
        }
        let free = PolicyStack(identity: [])
        let role = try grant("arn:aws:iam::111111111111:role/r")
        #expect(PolicyEvaluator.evaluate(request, free, resourcePolicy: role, isOwnAccount: true) == .allowed)
        #expect(PolicyEvaluator.evaluate(request, free, resourcePolicy: role, isOwnAccount: false) == .notMentioned)
    }

    @Test func trustPolicies() throws {
        let text = #"""
            {"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:AssumeRoleWithWebIdentity",
            "Principal":{"Federated":"arn:aws:iam::1:oidc-provider/idp"},"Condition":{"StringEquals":{"idp:sub":"${idp:aud}"}}}}
            """#
        let trust = try PolicyDocument(parsing: text, for: .trust)
        #expect(trust.contextKeys == ["idp:sub", "idp:aud"])
        func decide(_ provider: String) -> PolicyDecision {
            PolicyEvaluator.evaluate(
                PolicyRequest(
                    principal: PolicyPrincipal(accountID: "", arn: "", federatedProvider: provider),
                    action: "sts:AssumeRoleWithWebIdentity", resource: "r", context: ["idp:sub": "x", "idp:aud": "x"]), [trust])
        }
        #expect(decide("arn:aws:iam::1:oidc-provider/idp") == .allowed)
        #expect(decide("arn:aws:iam::2:oidc-provider/idp") == .notMentioned)
        #expect(throws: CloudError.self) { try PolicyDocument(parsing: text, for: .identity) }
        let named = #"{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Principal":"*","Resource":"*"}}"#
        #expect(throws: CloudError.self) { try PolicyDocument(parsing: named, for: .trust) }
    }
}
