import API
import Database
import Domain
import Testing

@testable import CloudControllerKit

@Suite struct AddressTests {
    private static func settings() -> CloudSettings {
        var settings = CloudSettings()
        settings.publicPool = CIDR(parsing: "198.18.0.0/29")!
        settings.privateNetwork = CIDR(parsing: "10.1.0.0/29")!
        settings.gateway = IPv4Address(parsing: "10.1.0.1")!
        return settings
    }

    /// An instance with its transient public and its private address, as RunInstances takes them.
    @discardableResult
    private func launch(_ test: TestCloud, _ id: String, _ account: String) async throws -> (String, String) {
        let settings = test.cloud.settings
        let (publicAddress, privateAddress) = try await test.cloud.pool.transaction { tx in
            (
                try AddressStore.takePublic(tx, instanceID: id, settings: settings).description,
                try AddressStore.takePrivate(tx, instanceID: id, settings: settings).description
            )
        }
        try await test.instance(id, account: account, address: privateAddress)
        return (publicAddress, privateAddress)
    }

    private func shown(_ test: TestCloud, _ ids: String...) async throws -> [String: PublicAddress] {
        try await test.cloud.pool.read { tx in try AddressStore.publicAddresses(tx, instanceIDs: ids) }
    }

    @Test func poolsGiveTheLowestAndEnd() async throws {
        let test = try await TestCloud(settings: Self.settings())
        let settings = test.cloud.settings
        let taken = try await test.cloud.pool.transaction { tx in
            try (1...5).map { try AddressStore.takePrivate(tx, instanceID: "i-0000000\($0)", settings: settings).description }
        }
        // The gateway's is not given out.
        #expect(taken == ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"])
        let error = await #expect(throws: CloudError.self) {
            try await test.cloud.pool.transaction { tx in try AddressStore.takePrivate(tx, instanceID: "i-00000009", settings: settings) }
        }
        #expect(error?.message == "Insufficient capacity. private network 10.1.0.0/29: asked 1 private addresses, 0 free of 5")
        try await test.cloud.pool.transaction { tx in try AddressStore.releaseInstance(tx, instanceID: "i-00000003") }
        let again = try await test.cloud.pool.transaction { tx in
            try AddressStore.takePrivate(tx, instanceID: "i-00000009", settings: settings)
        }
        #expect(again.description == "10.1.0.4")
        // Asked again for the same instance: the same.
        let same = try await test.cloud.pool.transaction { tx in
            try AddressStore.takePrivate(tx, instanceID: "i-00000009", settings: settings)
        }
        #expect(same == again)
    }

    @Test func allocateUntilThePoolIsEmpty() async throws {
        let test = try await TestCloud(settings: Self.settings())
        let (ec2, alice) = (test.actions, test.alice)
        let wanted = try await ec2.allocateAddress(EC2.AllocateAddress(address: "198.18.0.3"), alice)
        #expect(wanted.publicIp == "198.18.0.3")
        #expect(
            await code { _ = try await ec2.allocateAddress(EC2.AllocateAddress(address: "198.18.0.3"), alice) } == "InvalidAddress.NotFound"
        )
        #expect(
            await code { _ = try await ec2.allocateAddress(EC2.AllocateAddress(address: "198.18.0.7"), alice) } == "InvalidAddress.NotFound"
        )
        #expect(
            await code { _ = try await ec2.allocateAddress(EC2.AllocateAddress(address: "198.18.0"), alice) } == "InvalidParameterValue")
        var others: [String] = []
        for _ in 0..<5 { others.append(try await ec2.allocateAddress(EC2.AllocateAddress(), alice).publicIp ?? "") }
        #expect(others == ["198.18.0.1", "198.18.0.2", "198.18.0.4", "198.18.0.5", "198.18.0.6"])
        #expect(await code { _ = try await ec2.allocateAddress(EC2.AllocateAddress(), alice) } == "InsufficientAddressCapacity")
        #expect(await code { _ = try await ec2.releaseAddress(EC2.ReleaseAddress(publicIp: "198.18.0.2"), test.bob) } == "AuthFailure")
        _ = try await ec2.releaseAddress(EC2.ReleaseAddress(publicIp: "198.18.0.2"), alice)
        #expect(try await ec2.allocateAddress(EC2.AllocateAddress(domain: "standard"), test.bob).publicIp == "198.18.0.2")
        let shown = try await ec2.describeAddresses(EC2.DescribeAddresses(filters: [EC2.Filter(name: "public-ip", values: ["*.3"])]), alice)
        #expect(shown.addresses.map(\.allocationId) == [wanted.allocationId])
    }

    @Test func quota() async throws {
        var settings = Self.settings()
        settings.quotas.addresses = 1
        let test = try await TestCloud(settings: settings)
        _ = try await test.actions.allocateAddress(EC2.AllocateAddress(), test.alice)
        #expect(await code { _ = try await test.actions.allocateAddress(EC2.AllocateAddress(), test.alice) } == "AddressLimitExceeded")
        _ = try await test.actions.allocateAddress(EC2.AllocateAddress(), test.bob)
    }

    @Test func associateMoveAndEnd() async throws {
        let test = try await TestCloud(settings: Self.settings())
        let (ec2, alice, bob) = (test.actions, test.alice, test.bob)
        let first = try await launch(test, "i-00000001", alice.accountID)
        let second = try await launch(test, "i-00000002", alice.accountID)
        try await launch(test, "i-00000003", bob.accountID)
        #expect(first == ("198.18.0.1", "10.1.0.2") && second == ("198.18.0.2", "10.1.0.3"))
        let elastic = try await ec2.allocateAddress(EC2.AllocateAddress(), alice)
        let id = try #require(elastic.allocationId)
        let address = try #require(elastic.publicIp)

        // Someone else's address or instance.
        #expect(
            await code { _ = try await ec2.associateAddress(EC2.AssociateAddress(allocationId: id, instanceId: "i-00000003"), bob) }
                == "InvalidAllocationID.NotFound")
        #expect(
            await code { _ = try await ec2.associateAddress(EC2.AssociateAddress(allocationId: id, instanceId: "i-00000003"), alice) }
                == "InvalidInstanceID.NotFound")
        #expect(
            await code { _ = try await ec2.associateAddress(EC2.AssociateAddress(allocationId: id, instanceId: "i-x"), alice) }
                == "InvalidInstanceID.Malformed")

        let association = try await ec2.associateAddress(EC2.AssociateAddress(allocationId: id, instanceId: "i-00000001"), alice)
            .associationId
        #expect(try await shown(test, "i-00000001")["i-00000001"]?.address == address)
        // The transient address is in the pool again; the same association again is the same.
        let free = try await ec2.allocateAddress(EC2.AllocateAddress(), alice)
        #expect(free.publicIp == "198.18.0.1")
        _ = try await ec2.releaseAddress(EC2.ReleaseAddress(allocationId: free.allocationId), alice)
        #expect(
            try await ec2.associateAddress(EC2.AssociateAddress(allocationId: id, instanceId: "i-00000001"), alice).associationId
                == association)

        // By allocation id it moves only when that is asked for; the one that loses it gets a transient one.
        let move = EC2.AssociateAddress(allocationId: id, instanceId: "i-00000002")
        #expect(await code { _ = try await ec2.associateAddress(move, alice) } == "Resource.AlreadyAssociated")
        var asked = move
        asked.allowReassociation = true
        #expect(try await ec2.associateAddress(asked, alice).associationId != association)
        var now = try await shown(test, "i-00000001", "i-00000002")
        #expect(now["i-00000002"]?.address == address)
        #expect(now["i-00000001"]?.address == "198.18.0.1" && now["i-00000001"]?.allocationID == nil)

        // By number it just moves.
        _ = try await ec2.associateAddress(EC2.AssociateAddress(instanceId: "i-00000001", publicIp: address), alice)
        #expect(await code { _ = try await ec2.releaseAddress(EC2.ReleaseAddress(allocationId: id), alice) } == "InvalidIPAddress.InUse")

        // Another elastic address takes the place of the first.
        let other = try await ec2.allocateAddress(EC2.AllocateAddress(), alice)
        _ = try await ec2.associateAddress(EC2.AssociateAddress(allocationId: other.allocationId, instanceId: "i-00000001"), alice)
        now = try await shown(test, "i-00000001")
        #expect(now["i-00000001"]?.address == other.publicIp)
        let list = try await ec2.describeAddresses(EC2.DescribeAddresses(), alice).addresses
        #expect(list.first { $0.allocationId == id }?.instanceId == nil)
        #expect(list.first { $0.allocationId == other.allocationId }?.privateIpAddress == "10.1.0.2")

        _ = try await ec2.disassociateAddress(EC2.DisassociateAddress(publicIp: other.publicIp), alice)
        #expect(try await shown(test, "i-00000001")["i-00000001"]?.allocationID == nil)
        _ = try await ec2.disassociateAddress(EC2.DisassociateAddress(publicIp: other.publicIp), alice)
        #expect(
            await code { _ = try await ec2.disassociateAddress(EC2.DisassociateAddress(associationId: association), alice) }
                == "InvalidAssociationID.NotFound")

        // The end of the instance: its own go back, the elastic one stays the account's.
        _ = try await ec2.associateAddress(EC2.AssociateAddress(allocationId: id, instanceId: "i-00000002"), alice)
        try await test.cloud.pool.transaction { tx in try AddressStore.releaseInstance(tx, instanceID: "i-00000002") }
        #expect(try await ec2.describeAddresses(EC2.DescribeAddresses(allocationIds: [id]), alice).addresses.first?.instanceId == nil)
        _ = try await ec2.releaseAddress(EC2.ReleaseAddress(allocationId: id), alice)
        #expect(
            await code { _ = try await ec2.describeAddresses(EC2.DescribeAddresses(allocationIds: [id]), alice) }
                == "InvalidAllocationID.NotFound")
    }

    /// Many at once: no address is given twice, and all of the pool is given out.
    @Test func concurrentLaunchesShareThePool() async throws {
        var settings = Self.settings()
        settings.publicPool = CIDR(parsing: "198.18.0.0/27")!
        let test = try await TestCloud(settings: settings, connections: 6)
        let fixed = settings
        let taken = try await withThrowingTaskGroup(of: String.self) { group in
            for n in 10..<40 {
                group.addTask {
                    try await test.cloud.pool.transaction { tx in
                        try AddressStore.takePublic(tx, instanceID: "i-000000\(n)", settings: fixed).description
                    }
                }
            }
            var out: Set<String> = []
            for try await address in group { out.insert(address) }
            return out
        }
        #expect(taken.count == 30)
    }
}
