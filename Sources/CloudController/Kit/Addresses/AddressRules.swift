import Domain

enum AddressRules {
    /// - Throws: `.invalidParameter`.
    static func parse(_ text: String, parameter: String) throws(CloudError) -> IPv4Address {
        guard let address = IPv4Address(parsing: text) else {
            throw CloudError(
                .invalidParameter(parameter), "Value (\(text.prefix(60))) for parameter \(parameter) is invalid. Invalid IPv4 address")
        }
        return address
    }

    static func notFound(_ address: String) -> CloudError {
        CloudError(.named(code: "InvalidAddress.NotFound", status: 400), "Address '\(address)' not found.")
    }

    /// EC2's answer to changing an address by its number when it is not the caller's: it does not say whether it exists.
    static func notYours(_ address: String) -> CloudError {
        CloudError(.named(code: "AuthFailure", status: 400), "The address '\(address)' does not belong to you.")
    }

    /// Which address a request means: by allocation id, or by its number.
    enum Key: Sendable {
        case allocation(AddressAllocationID)
        case number(IPv4Address)

        /// - Throws: `.missingParameter`, `.invalidCombination`, `.malformedID`.
        init(allocationID: String?, publicIP: String?) throws(CloudError) {
            switch (allocationID, publicIP) {
            case (nil, nil): throw CloudError(.missingParameter("AllocationId"))
            case (.some, .some):
                throw CloudError(.invalidCombination("You may specify public IP or allocation id, but not both in the same call"))
            case (.some(let id), nil): self = .allocation(try AddressAllocationID(parsing: id))
            case (nil, .some(let text)): self = .number(try parse(text, parameter: "PublicIp"))
            }
        }
    }

    /// Whether an address may be given to `instanceID` now.
    /// - Returns: `false` when it is there already.
    /// - Throws: `.duplicate(.addressAssociation)`.
    static func mayAssociate(_ address: ElasticAddress, to instanceID: String, byNumber: Bool, allowReassociation: Bool) throws(CloudError)
        -> Bool
    {
        guard let current = address.instanceID else { return true }
        if current == instanceID { return false }
        // In the classic form an address moves at once; by allocation id only when that is asked for.
        guard byNumber || allowReassociation else {
            throw CloudError(
                .duplicate(.addressAssociation, name: address.allocationID.text),
                "resource \(address.allocationID) is already associated with \(address.associationID ?? current)")
        }
        return true
    }

    static let filters: Set<String> = [
        "allocation-id", "association-id", "domain", "instance-id", "private-ip-address", "public-ip", "network-border-group", "tag",
    ]

    static func values(_ address: ElasticAddress, region: String, _ filter: String) -> [String] {
        switch filter {
        case "allocation-id": [address.allocationID.text]
        case "association-id": [address.associationID].compactMap { $0 }
        case "domain": [address.domain]
        case "instance-id": [address.instanceID].compactMap { $0 }
        case "private-ip-address": [address.privateAddress].compactMap { $0 }
        case "public-ip": [address.address.description]
        case "network-border-group": [region]
        default: []
        }
    }
}
