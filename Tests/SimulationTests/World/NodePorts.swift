import API
import Domain
import NodeControllerKit
import TestKit

// What a node does in its world, in one life: each call takes a moment, and a kill comes before it or after it.

struct LifeHypervisor: Hypervisor {
    let base: SimulatedHypervisor
    let deeds: Deeds

    var capabilities: HypervisorCapabilities { base.capabilities }
    func events() -> AsyncStream<HypervisorEvent> { base.events() }

    func define(_ domain: DomainSpecification) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in try await base.define(domain) }
    }
    func start(_ name: String) async throws(CloudError) {
        try await deeds.perform(atMost: 200) { () async throws(CloudError) in try await base.start(name) }
    }
    func shutdown(_ name: String) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in try await base.shutdown(name) }
    }
    func destroy(_ name: String) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in try await base.destroy(name) }
    }
    func undefine(_ name: String) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in try await base.undefine(name) }
    }
    func reboot(_ name: String) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in try await base.reboot(name) }
    }
    func reset(_ name: String) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in try await base.reset(name) }
    }
    func pause(_ name: String) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in try await base.pause(name) }
    }
    func resume(_ name: String) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in try await base.resume(name) }
    }
    func domains() async throws(CloudError) -> [DomainStatus] {
        try deeds.life.check()
        return try await base.domains()
    }
    func domain(named name: String) async throws(CloudError) -> DomainStatus? {
        try await deeds.perform(atMost: 2) { () async throws(CloudError) in try await base.domain(named: name) }
    }
    func attachDisk(_ disk: NetworkDisk, to name: String) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in try await base.attachDisk(disk, to: name) }
    }
    func detachDisk(serial: String, from name: String) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in try await base.detachDisk(serial: serial, from: name) }
    }
    func check() async throws(CloudError) {
        try deeds.life.check()
        try await base.check()
    }
}

struct LifeDisks: InstanceDisks {
    let base: SimulatedDisks
    let deeds: Deeds

    func root(_ instanceID: String, over image: CachedImage, diskGiB: Int) async throws(CloudError) -> DomainSpecification.FileDisk {
        try await deeds.perform(atMost: 100) { () async throws(CloudError) in try await base.root(instanceID, over: image, diskGiB: diskGiB)
        }
    }
    func existingRoot(_ instanceID: String) async -> DomainSpecification.FileDisk? { await base.existingRoot(instanceID) }
    func consolePath(_ instanceID: String) -> String { base.consolePath(instanceID) }
    func console(_ instanceID: String, last limit: Int) async throws(CloudError) -> [UInt8] {
        try await base.console(instanceID, last: limit)
    }
    func remove(_ instanceID: String) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in try await base.remove(instanceID) }
    }
    func freeBytes() async -> Int { await base.freeBytes() }
}

struct LifeImages: ImageStore {
    let base: SimulatedImages
    let deeds: Deeds

    func image(_ source: NC.ImageSource) async throws(CloudError) -> CachedImage {
        try await deeds.perform(atMost: 1500) { () async throws(CloudError) in try await base.image(source) }
    }
    func space() async -> (freeMiB: Int, totalMiB: Int) { await base.space() }
}
