import API
import Database
import Domain
import Identity
import Signing
import Testing

@testable import CloudControllerKit

@Suite struct ImageTests {
    /// A cloud where alice has bundled and uploaded an image.
    private func bundled(configuration: String = "") async throws -> (TestCloud, BundleFixture) {
        let test = try await TestCloud()
        let fixture = try BundleFixture(cloud: test.cloud.keys.imageCertificate.pem, configuration: configuration)
        _ = try await test.cloud.identity.certificateAdd(pem: fixture.certificate, account: test.alice.accountID)
        fixture.upload(test.store, folder: "disks/")
        return (test, fixture)
    }

    private let location = "images/disks/disk.img.manifest.xml"

    private func refusal(_ test: TestCloud, _ op: OperationContext? = nil, _ location: String? = nil) async -> String {
        do {
            _ = try await test.actions.registerImage(EC2.RegisterImage(imageLocation: location ?? self.location), op ?? test.alice)
            return ""
        } catch {
            return "\(error.message)"
        }
    }

    @Test func registerABundle() async throws {
        let (test, fixture) = try await bundled()
        let (ec2, alice) = (test.actions, test.alice)
        let id = try #require(
            try await ec2.registerImage(EC2.RegisterImage(imageLocation: location, name: "debian 12", description: "d"), alice).imageId)
        #expect(id.hasPrefix("emi-"))
        let shown = try await ec2.describeImages(EC2.DescribeImages(owners: ["self"]), alice).images
        #expect(
            shown.map(\.imageId) == [id] && shown[0].name == "debian 12" && shown[0].imageLocation == location && shown[0].isPublic == false
        )
        let stored = try await test.cloud.pool.read { tx in try ImageStore.launchImage(tx, id: id, accountID: alice.accountID) }
        #expect(stored.parts.map(\.key) == fixture.parts.map { "disks/" + $0.name })
        #expect(stored.parts.map(\.size) == fixture.parts.map(\.bytes.count))
        #expect(stored.virtualSize == fixture.image.count && stored.format == .bundle)
        // The name is taken; the same location again is another image with the same content: one file in the nodes' caches.
        #expect(
            await code { _ = try await ec2.registerImage(EC2.RegisterImage(imageLocation: location, name: "debian 12"), alice) }
                == "InvalidAMIName.Duplicate")
        let second = try #require(try await ec2.registerImage(EC2.RegisterImage(imageLocation: "/" + location), alice).imageId)
        let other = try await test.cloud.pool.read { tx in try ImageStore.launchImage(tx, id: second, accountID: alice.accountID) }
        #expect(other.id != stored.id && other.cacheKey == stored.cacheKey)
    }

    @Test func brokenBundlesAreRefusedByName() async throws {
        let (test, fixture) = try await bundled()
        let part = fixture.parts[1]
        let key = "images/disks/\(part.name)"
        // Bob has not registered the certificate.
        #expect(await refusal(test, test.bob).contains("its signature fits none"))
        test.store.remove(key)
        #expect(await refusal(test).contains("its part 1, \(key), does not exist"))
        test.store.put(key, Array(part.bytes.dropLast(100)))
        #expect(await refusal(test).contains("its part 1, \(key), is damaged"))
        test.store.put(key, [1] + part.bytes.dropFirst())
        #expect(await refusal(test).contains("its part 1, \(key), is damaged"))
        test.store.put(key, part.bytes)
        #expect(await refusal(test, nil, "images/none.manifest.xml") == "The object images/none.manifest.xml does not exist")
        test.store.put("images/empty", [])
        #expect(await refusal(test, nil, "images/empty").contains("is empty"))
        #expect(await refusal(test, nil, "images").contains("expecting bucket/name"))
        #expect(try await test.actions.describeImages(EC2.DescribeImages(), test.alice).images.isEmpty)
        #expect(await refusal(test) == "")
    }

    /// A bundle made for another cloud.
    @Test func theWrongKeyIsRefused() async throws {
        let test = try await TestCloud()
        let key = try PrivateKey.generateRSA(bits: 2048)
        let fixture = try BundleFixture(cloud: try CertificateAuthority.selfSigned(name: "other", key: key, days: 30).pem)
        _ = try await test.cloud.identity.certificateAdd(pem: fixture.certificate, account: test.alice.accountID)
        fixture.upload(test.store, folder: "disks/")
        #expect(await refusal(test).contains("was not made for this cloud's certificate"))
    }

    /// Sizes are compared where digests are not: in large bundles. The odd part is named.
    @Test func theOddPartIsNamed() {
        let parts = [10, 10, 7, 10, 3].enumerated().map { StoredImage.Part(key: "p\($0)", size: $1, digest: "") }
        #expect(ImageRegistrar.suspect(parts, missing: 3) == "p2 has 7 bytes and seems to be cut off")
        let end = [10, 10, 3].enumerated().map { StoredImage.Part(key: "p\($0)", size: $1, digest: "") }
        #expect(ImageRegistrar.suspect(end, missing: 3) == "p2 has 3 bytes and seems to be cut off")
    }

    @Test func singleObjects() async throws {
        let test = try await TestCloud()
        let (ec2, alice) = (test.actions, test.alice)
        let disk = [UInt8](repeating: 5, count: 200 * 1024)
        test.store.put("images/disk.raw", disk)
        var kernel = [UInt8](repeating: 1, count: 5000)
        kernel.replaceSubrange(0x202..<0x206, with: Array("HdrS".utf8))
        test.store.put("images/vmlinuz", kernel)
        test.store.put("images/initrd.gz", [0x1f, 0x8b, 8, 0])
        let eki = try #require(try await ec2.registerImage(EC2.RegisterImage(imageLocation: "images/vmlinuz"), alice).imageId)
        let eri = try #require(try await ec2.registerImage(EC2.RegisterImage(imageLocation: "images/initrd.gz"), alice).imageId)
        #expect(eki.hasPrefix("eki-") && eri.hasPrefix("eri-"))
        let emi = try #require(
            try await ec2.registerImage(EC2.RegisterImage(imageLocation: "s3://images/disk.raw", kernelId: eki, ramdiskId: eri), alice)
                .imageId)
        let stored = try await test.cloud.pool.read { tx in try ImageStore.launchImage(tx, id: emi, accountID: alice.accountID) }
        #expect(stored.digest == Hex.encode(Digest.sha256(disk)) && stored.cacheKey == stored.digest && stored.virtualSize == disk.count)
        #expect(
            stored.kernelID == eki && stored.ramdiskID == eri
                && stored.parts == [StoredImage.Part(key: "disk.raw", size: disk.count, digest: "")])
        // A kernel that is someone else's is none.
        #expect(
            await code { _ = try await ec2.registerImage(EC2.RegisterImage(imageLocation: "images/disk.raw", kernelId: eki), test.bob) }
                == "InvalidAMIID.NotFound")
        #expect(
            await code { _ = try await ec2.registerImage(EC2.RegisterImage(imageLocation: "images/disk.raw", kernelId: "eki-x"), alice) }
                == "InvalidAMIID.Malformed")
        #expect(
            await code { _ = try await ec2.registerImage(EC2.RegisterImage(imageLocation: "images/disk.raw", ramdiskId: eri), alice) }
                == "InvalidParameterCombination")
        #expect(
            await code { _ = try await ec2.registerImage(EC2.RegisterImage(imageLocation: "images/disk.raw", name: "x!"), alice) }
                == "InvalidAMIName.Malformed")
        #expect(await code { _ = try await ec2.registerImage(EC2.RegisterImage(), alice) } == "MissingParameter")
        let kernels = try await ec2.describeImages(EC2.DescribeImages(filters: [EC2.Filter(name: "image-type", values: ["kernel"])]), alice)
            .images
        #expect(kernels.map(\.imageId) == [eki])
    }

    @Test func whoMaySeeAndRun() async throws {
        let test = try await TestCloud()
        let (ec2, alice, bob) = (test.actions, test.alice, test.bob)
        test.store.put("images/disk.raw", [UInt8](repeating: 0, count: 1024))
        let id = try #require(
            try await ec2.registerImage(
                EC2.RegisterImage(
                    imageLocation: "images/disk.raw",
                    tagSpecifications: [EC2.TagSpecification(resourceType: "image", tags: [EC2.Tag(key: "a", value: "b")])]),
                alice
            ).imageId)
        func seen(_ request: EC2.DescribeImages, _ op: OperationContext) async throws -> [String] {
            try await ec2.describeImages(request, op).images.compactMap(\.imageId)
        }
        #expect(try await seen(EC2.DescribeImages(), bob).isEmpty)
        #expect(await code { _ = try await seen(EC2.DescribeImages(imageIds: [id]), bob) } == "InvalidAMIID.NotFound")
        #expect(await code { _ = try await ec2.deregisterImage(EC2.DeregisterImage(imageId: id), bob) } == "InvalidAMIID.NotFound")
        #expect(
            await code { _ = try await test.cloud.pool.read { tx in try ImageStore.launchImage(tx, id: id, accountID: bob.accountID) } }
                == "InvalidAMIID.NotFound")

        // To one account, in the form of the Query API of 2006.
        let give = EC2.ModifyImageAttribute(attribute: "launchPermission", imageId: id, operationType: "add", userIds: [bob.accountID])
        #expect(await code { _ = try await ec2.modifyImageAttribute(give, bob) } == "InvalidAMIID.NotFound")
        _ = try await ec2.modifyImageAttribute(give, alice)
        #expect(try await seen(EC2.DescribeImages(), bob) == [id])
        #expect(try await seen(EC2.DescribeImages(executableUsers: ["self"]), bob) == [id])
        #expect(try await seen(EC2.DescribeImages(owners: ["self"]), bob).isEmpty)
        // To see is not to own; another's tags are not shown.
        #expect(await code { _ = try await ec2.deregisterImage(EC2.DeregisterImage(imageId: id), bob) } == "AuthFailure")
        #expect(
            await code {
                _ = try await ec2.describeImageAttribute(EC2.DescribeImageAttribute(attribute: "launchPermission", imageId: id), bob)
            } == "AuthFailure")
        #expect(try await seen(EC2.DescribeImages(filters: [EC2.Filter(name: "tag:a", values: ["b"])]), bob).isEmpty)
        #expect(try await seen(EC2.DescribeImages(filters: [EC2.Filter(name: "tag:a", values: ["b"])]), alice) == [id])

        // To all, in the form of records; description and product codes.
        _ = try await ec2.modifyImageAttribute(
            EC2.ModifyImageAttribute(
                imageId: id,
                launchPermission: EC2.LaunchPermissionModifications(
                    add: [EC2.LaunchPermission(group: "all")], remove: [EC2.LaunchPermission(userId: bob.accountID)])), alice)
        _ = try await ec2.modifyImageAttribute(
            EC2.ModifyImageAttribute(description: EC2.AttributeValue(value: "new"), imageId: id, productCodes: ["pc"]), alice)
        let permissions = try await ec2.describeImageAttribute(
            EC2.DescribeImageAttribute(imageId: id, chooseLaunchPermission: EC2.EmptyElement()), alice)
        #expect(permissions.launchPermissions == [EC2.LaunchPermission(group: "all")])
        #expect(try await seen(EC2.DescribeImages(executableUsers: ["all"]), bob) == [id])
        #expect(
            try await ec2.describeImageAttribute(EC2.DescribeImageAttribute(attribute: "description", imageId: id), alice).description?
                .value == "new")
        for bad in [
            EC2.ModifyImageAttribute(imageId: id), EC2.ModifyImageAttribute(imageId: id, userIds: [bob.accountID]),
            EC2.ModifyImageAttribute(imageId: id, operationType: "add", userIds: ["bob"]),
            EC2.ModifyImageAttribute(imageId: id, operationType: "add", userGroups: ["some"]),
        ] {
            #expect(
                ["MissingParameter", "InvalidAMIAttributeItemValue"].contains(
                    await code { _ = try await ec2.modifyImageAttribute(bad, alice) }))
        }
        _ = try await ec2.resetImageAttribute(EC2.ResetImageAttribute(attribute: "launchPermission", imageId: id), alice)
        #expect(try await seen(EC2.DescribeImages(), bob).isEmpty)

        // Gone for clients, kept for the instances that run of it.
        _ = try await ec2.deregisterImage(EC2.DeregisterImage(imageId: id), alice)
        #expect(await code { _ = try await seen(EC2.DescribeImages(imageIds: [id]), alice) } == "InvalidAMIID.NotFound")
        #expect(await code { _ = try await ec2.deregisterImage(EC2.DeregisterImage(imageId: id), alice) } == "InvalidAMIID.NotFound")
        let kept = try await test.cloud.pool.read { tx in try ImageStore.imageForOrder(tx, id: id) }
        #expect(kept.isDeregistered && kept.productCodes == ["pc"])
    }
}
