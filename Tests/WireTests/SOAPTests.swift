import API
import Domain
import Testing
import Wire

@Suite struct SOAPTests {
    private static let dates = ["2008-05-05", "2009-08-15", "2010-08-31", "2014-10-01", "2016-11-15"]

    private func parse(_ text: String) throws -> XMLElement { try XMLReader.parse(Array(text.utf8)) }

    private func element(_ inner: String, _ name: String = "DescribeInstances", date: String = "2010-08-31") throws -> XMLElement {
        try parse("<\(name) xmlns=\"http://ec2.amazonaws.com/doc/\(date)/\">\(inner)</\(name)>")
    }

    private func decode(_ inner: String) throws -> Value {
        try decodeSOAP(EC2.DescribeInstances.shape, element(inner), version: "2010-08-31")
    }

    @Test func containersItemsAndLeaves() throws {
        let request = try EC2.DescribeInstances(
            decode(
                "<filterSet><item><valueSet><item><value>running</value></item></valueSet><name>instance-state-name</name>"
                    + "</item></filterSet><instancesSet><item><instanceId>i-1</instanceId></item><item><instanceId>i-2"
                    + "</instanceId></item></instancesSet>"
            ))
        #expect(request.instanceIds == ["i-1", "i-2"])
        #expect(request.filters.map(\.name) == ["instance-state-name"] && request.filters[0].values == ["running"])
        #expect(try EC2.DescribeInstances(decode("<instancesSet/>")).instanceIds.isEmpty)
        #expect(try EC2.DescribeInstances(decode("")).instanceIds.isEmpty)
    }

    @Test func userDataAndPlacement() throws {
        let e = try element(
            "<imageId>emi-1</imageId><minCount>1</minCount><maxCount>2</maxCount><groupSet><item><groupId>default"
                + "</groupId></item></groupSet><userData version=\"1.0\" encoding=\"base64\"><data>aGk=\n</data></userData>"
                + "<placement><availabilityZone>karri-1a</availabilityZone></placement>",
            "RunInstances")
        let request = try EC2.RunInstances(decodeSOAP(EC2.RunInstances.shape, e, version: "2010-08-31"))
        #expect(request.userData == Array("hi".utf8))
        #expect(request.placement?.availabilityZone == "karri-1a")
        #expect(request.securityGroups == ["default"])
        #expect(request.minCount == 1 && request.maxCount == 2)
    }

    /// The same request by Query and by SOAP is the same value, so that everything behind sees one.
    @Test func sameValueAsQuery() throws {
        let query = try decodeQuery(
            EC2.RunInstances.shape,
            QueryParameters(
                parsing: "ImageId=emi-1&MinCount=1&MaxCount=2&SecurityGroup.1=default&UserData=aGk%3D&Placement.AvailabilityZone=karri-1a"),
            version: "2010-08-31")
        let soap = try decodeSOAP(
            EC2.RunInstances.shape,
            element(
                "<imageId>emi-1</imageId><minCount>01</minCount><maxCount>2</maxCount><groupSet><item><groupId>default"
                    + "</groupId></item></groupSet><userData><data>aGk=</data></userData><placement><availabilityZone>karri-1a"
                    + "</availabilityZone></placement>",
                "RunInstances"), version: "2010-08-31")
        #expect(query == soap)
    }

    @Test(arguments: [
        "<instancesSet><item><instanceId>i-1</instanceId><other>x</other></item></instancesSet>",
        "<instancesSet><item><instanceId>i-1</instanceId><instanceId>i-2</instanceId></item></instancesSet>",
        "<instancesSet><item/></instancesSet>", "<instancesSet><thing/></instancesSet>", "<instancesSet>text</instancesSet>",
        "<instancesSet><item>i-1</item></instancesSet>", "<instancesSet/><instancesSet/>", "<unknown/>", "text", "<InstancesSet/>",
        "<instancesSet><item xmlns=\"urn:other\"><instanceId>i-1</instanceId></item></instancesSet>", "<instancesSet xmlns=\"\"/>",
        "<instancesSet><item><instanceId><b/></instanceId></item></instancesSet>",
        "<instancesSet><item><instanceId xmlns=\"urn:other\">i-1</instanceId></item></instancesSet>",
        "<filterSet><item><name>x</name><name>y</name></item></filterSet>", "<maxResults>5</maxResults>",
    ])
    func refusals(_ inner: String) { #expect(throws: CloudError.self) { try decode(inner) } }

    @Test func refusalsOfUserData() {
        for inner in [
            "<userData encoding=\"hex\"><data>aGk=</data></userData>", "<userData><data>!</data></userData>",
            "<userData><data>aGk=</data><more/></userData>",
        ] {
            #expect(throws: CloudError.self) {
                try decodeSOAP(
                    EC2.RunInstances.shape,
                    element("<imageId>emi-1</imageId><minCount>1</minCount><maxCount>1</maxCount>" + inner, "RunInstances"),
                    version: "2010-08-31")
            }
        }
    }

    @Test func attributesSelectNothing() throws {
        let request = try decode(
            "<instancesSet xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"x:Evil\"><item>"
                + "<instanceId>i-1</instanceId></item></instancesSet>"
                + "<filterSet xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:nil=\"true\"/>"
        )
        #expect(request == .record(["instanceIds": .texts(["i-1"])]))
    }

    @Test func namespacesOfAnyDate() throws {
        for date in Self.dates {
            for slash in ["/", ""] {
                let e = try parse("<DescribeInstances xmlns=\"http://ec2.amazonaws.com/doc/\(date)\(slash)\"/>")
                let found = try SOAPEnvelope.action(of: e, service: EC2.service, soapAction: "\"DescribeInstances\"")
                #expect(found.version == date && found.operation.name == "DescribeInstances")
                #expect(found.namespace == "http://ec2.amazonaws.com/doc/\(date)\(slash)")
            }
        }
        for other in [
            "http://ec2.amazonaws.com/doc/", "http://ec2.amazonaws.com/doc/2009-8-15/", "http://ec2.amazonaws.com/doc/2009-08-15/x",
            "https://ec2.amazonaws.com/doc/2009-08-15/", "urn:karri:nc:1", "", "http://ec2.amazonaws.com/doc/２009-08-15/",
        ] {
            let e = XMLElement(name: "DescribeInstances", namespace: other)
            #expect(throws: CloudError.self, "\(other)") { try SOAPEnvelope.action(of: e, service: EC2.service, soapAction: nil) }
        }
        let e = try parse("<DescribeInstances xmlns=\"http://ec2.amazonaws.com/doc/2009-08-15/\"/>")
        #expect(throws: CloudError.self) { try SOAPEnvelope.action(of: e, service: EC2.service, soapAction: "TerminateInstances") }
        // Actions that a date did not have yet
        let early = try parse("<ImportKeyPair xmlns=\"http://ec2.amazonaws.com/doc/2008-05-05/\"/>")
        #expect(throws: CloudError.self) { try SOAPEnvelope.action(of: early, service: EC2.service, soapAction: nil) }
    }

    @Test func envelopes() throws {
        let inner = Array("<X xmlns=\"urn:x\">1</X>".utf8)
        for version in [SOAPVersion.v11, .v12] {
            let message = try SOAPEnvelope.open(XMLReader.parse(SOAPEnvelope.wrap(inner, version: version)))
            #expect(message.version == version && message.operation.name == "X" && message.headers.isEmpty)
        }
        let e = "http://schemas.xmlsoap.org/soap/envelope/"
        for bad in [
            "<X/>", "<Envelope/>", "<e:Envelope xmlns:e='\(e)'/>", "<e:Envelope xmlns:e='\(e)'><e:Body/></e:Envelope>",
            "<e:Envelope xmlns:e='\(e)'><e:Body><a/><b/></e:Body></e:Envelope>",
            "<e:Envelope xmlns:e='\(e)'><e:Body><a/></e:Body><e:Body><b/></e:Body></e:Envelope>",
            "<e:Envelope xmlns:e='\(e)'><e:Body><a/></e:Body><e:Header/></e:Envelope>",
            "<e:Envelope xmlns:e='\(e)'><e:Header/><e:Header/><e:Body><a/></e:Body></e:Envelope>",
            "<e:Envelope xmlns:e='\(e)'><Body xmlns='http://www.w3.org/2003/05/soap-envelope'><a/></Body></e:Envelope>",
            "<e:Envelope xmlns:e='\(e)'><e:Body>text<a/></e:Body></e:Envelope>",
            "<e:Envelope xmlns:e='\(e)'>x<e:Body><a/></e:Body></e:Envelope>",
            "<e:Envelope xmlns:e='\(e)'><e:Header><h xmlns='urn:h' e:mustUnderstand='1'/></e:Header><e:Body><a/></e:Body></e:Envelope>",
        ] {
            #expect(throws: CloudError.self, "\(bad)") { try SOAPEnvelope.open(parse(bad)) }
        }
        let known = try parse(
            "<e:Envelope xmlns:e='\(e)'><e:Header><h xmlns='urn:h' e:mustUnderstand='1'/><i xmlns='urn:h'/></e:Header>"
                + "<e:Body><a/></e:Body></e:Envelope>"
        )
        #expect(try SOAPEnvelope.open(known, understood: ["{urn:h}h"]).headers.count == 2)
    }

    @Test func internalMessages() throws {
        let request = NC.RunInstance(
            order: NC.InstanceOrder(
                instanceId: "i-1", cores: 1, memoryMiB: 256, diskGiB: 2, machine: NC.ImageSource(imageId: "emi-1"),
                macAddress: "d0:0d:00:00:00:01",
                privateAddress: "10.1.0.4"), generation: 3)
        let bytes = InternalMessage.request(NC.service, NC.RunInstance.operation, request.wireValue)
        expectGolden(bytes, "nc-run-instance.xml")
        let (operation, value) = try InternalMessage.readRequest(NC.service, XMLReader.parse(bytes))
        #expect(operation.name == "RunInstance")
        #expect(try NC.RunInstance(value) == request)
        #expect(throws: CloudError.self) { try InternalMessage.readRequest(SC.service, XMLReader.parse(bytes)) }
        let fault = CloudError(.stale(newest: 7))
        #expect(throws: fault) {
            try InternalMessage.readReply(NC.service, operation, XMLReader.parse(InternalFault.element(fault)))
        }
        let other = InternalMessage.reply(NC.service, NC.StopInstance.operation, .record([:]))
        #expect(throws: CloudError.self) { try InternalMessage.readReply(NC.service, operation, XMLReader.parse(other)) }
    }

    @Test func peerIdentities() {
        let good = PeerIdentity(uri: "karri://cloud-1/nc/node.a_2")
        #expect(good == PeerIdentity(cloud: "cloud-1", role: "nc", name: "node.a_2") && good?.uri == "karri://cloud-1/nc/node.a_2")
        for bad in [
            "karri://a/b", "karri://a/b/c/d", "karri:///b/c", "karri://a/b/", "http://a/b/c", "karri://a/b/c?d", "karri://a/b/é", "",
        ] {
            #expect(PeerIdentity(uri: bad) == nil, "\(bad)")
        }
    }
}
