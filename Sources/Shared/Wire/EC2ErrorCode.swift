public import Domain

/// A code of one wire and the HTTP status that goes with it.
public struct WireErrorCode: Sendable, Equatable {
    public let code: String
    public let status: Int
    public init(_ code: String, _ status: Int) {
        self.code = code
        self.status = status
    }
    /// Whose fault it is, as SOAP 1.1 faults prefix it.
    public var side: String { status >= 500 ? "Server" : "Client" }
}

/// EC2's codes. Source: Amazon EC2 API Reference, "Error codes" (client codes 4xx, server codes 5xx); the SOAP codes are the same.
public enum EC2ErrorCode {
    public static func code(for reason: CloudError.Reason) -> WireErrorCode {
        switch reason {
        case .notFound(let kind, _): notFound(kind)
        case .malformedID(let kind, _): malformed(kind)
        case .duplicate(let kind, _): duplicate(kind)
        case .inUse(let kind, _, _): inUse(kind)
        case .incorrectState(let kind, _, _): incorrectState(kind)
        case .missingParameter: WireErrorCode("MissingParameter", 400)
        case .invalidParameter: WireErrorCode("InvalidParameterValue", 400)
        case .invalidCombination: WireErrorCode("InvalidParameterCombination", 400)
        case .unknownAction: WireErrorCode("InvalidAction", 400)
        case .malformedRequest: WireErrorCode("InvalidRequest", 400)
        case .requestTooLarge: WireErrorCode("RequestEntityTooLarge", 413)
        case .limitExceeded(let name, _, _): limit(name)
        case .capacity(let shortage): capacity(shortage.resource)
        case .unauthenticated(let failure): authentication(failure)
        case .forbidden: WireErrorCode("UnauthorizedOperation", 403)
        case .dryRunSucceeded: WireErrorCode("DryRunOperation", 412)
        case .idempotencyMismatch: WireErrorCode("IdempotentParameterMismatch", 400)
        case .stale: WireErrorCode("IncorrectState", 409)
        case .unavailable: WireErrorCode("Unavailable", 503)
        case .bug: WireErrorCode("InternalError", 500)
        case .named(let code, let status): WireErrorCode(code, status)
        }
    }

    private static func notFound(_ kind: ResourceKind) -> WireErrorCode {
        switch kind {
        case .address: WireErrorCode("InvalidAllocationID.NotFound", 400)
        case .addressAssociation: WireErrorCode("InvalidAssociationID.NotFound", 400)
        case .attachment: WireErrorCode("InvalidAttachment.NotFound", 400)
        case .bucket: WireErrorCode("NoSuchBucket", 404)
        case .bundleTask: WireErrorCode("InvalidBundleID.NotFound", 400)
        case .image: WireErrorCode("InvalidAMIID.NotFound", 400)
        case .instance: WireErrorCode("InvalidInstanceID.NotFound", 400)
        case .instanceType: WireErrorCode("InvalidInstanceType", 400)
        case .dhcpOptions: WireErrorCode("InvalidDhcpOptionID.NotFound", 400)
        case .internetGateway: WireErrorCode("InvalidInternetGatewayID.NotFound", 400)
        case .launchTemplate: WireErrorCode("InvalidLaunchTemplateId.NotFound", 400)
        case .networkAcl: WireErrorCode("InvalidNetworkAclID.NotFound", 400)
        case .networkInterface: WireErrorCode("InvalidNetworkInterfaceID.NotFound", 400)
        case .placementGroup: WireErrorCode("InvalidPlacementGroup.Unknown", 400)
        case .routeTable: WireErrorCode("InvalidRouteTableID.NotFound", 400)
        case .subnet: WireErrorCode("InvalidSubnetID.NotFound", 400)
        case .vpc: WireErrorCode("InvalidVpcID.NotFound", 400)
        case .keyPair: WireErrorCode("InvalidKeyPair.NotFound", 400)
        case .node: WireErrorCode("InvalidNode.NotFound", 400)
        case .object: WireErrorCode("NoSuchKey", 404)
        case .reservation: WireErrorCode("InvalidReservationID.NotFound", 400)
        case .securityGroup: WireErrorCode("InvalidGroup.NotFound", 400)
        case .securityGroupRule: WireErrorCode("InvalidPermission.NotFound", 400)
        case .snapshot: WireErrorCode("InvalidSnapshot.NotFound", 400)
        case .upload: WireErrorCode("NoSuchUpload", 404)
        case .user: WireErrorCode("InvalidUserID.NotFound", 400)
        case .volume: WireErrorCode("InvalidVolume.NotFound", 400)
        case .zone: WireErrorCode("InvalidZone.NotFound", 400)
        }
    }

    private static func malformed(_ kind: ResourceKind) -> WireErrorCode {
        switch kind {
        case .address: WireErrorCode("InvalidAllocationID.Malformed", 400)
        case .addressAssociation: WireErrorCode("InvalidAssociationID.Malformed", 400)
        case .bundleTask: WireErrorCode("InvalidBundleID.Malformed", 400)
        case .image: WireErrorCode("InvalidAMIID.Malformed", 400)
        case .instance: WireErrorCode("InvalidInstanceID.Malformed", 400)
        case .dhcpOptions: WireErrorCode("InvalidDhcpOptionsId.Malformed", 400)
        case .internetGateway: WireErrorCode("InvalidInternetGatewayId.Malformed", 400)
        case .launchTemplate: WireErrorCode("InvalidLaunchTemplateId.Malformed", 400)
        case .networkAcl: WireErrorCode("InvalidNetworkAclId.Malformed", 400)
        case .networkInterface: WireErrorCode("InvalidNetworkInterfaceId.Malformed", 400)
        case .placementGroup: WireErrorCode("InvalidPlacementGroupId.Malformed", 400)
        case .routeTable: WireErrorCode("InvalidRouteTableId.Malformed", 400)
        case .subnet: WireErrorCode("InvalidSubnetID.Malformed", 400)
        case .vpc: WireErrorCode("InvalidVpcID.Malformed", 400)
        case .keyPair: WireErrorCode("InvalidKeyPair.Malformed", 400)
        case .reservation: WireErrorCode("InvalidReservationID.Malformed", 400)
        case .securityGroup: WireErrorCode("InvalidGroupId.Malformed", 400)
        case .securityGroupRule: WireErrorCode("InvalidSecurityGroupRuleId.Malformed", 400)
        case .snapshot: WireErrorCode("InvalidSnapshotID.Malformed", 400)
        case .user: WireErrorCode("InvalidUserID.Malformed", 400)
        case .volume: WireErrorCode("InvalidVolumeID.Malformed", 400)
        case .attachment, .bucket, .instanceType, .node, .object, .upload, .zone: WireErrorCode("InvalidParameterValue", 400)
        }
    }

    private static func duplicate(_ kind: ResourceKind) -> WireErrorCode {
        switch kind {
        case .image: WireErrorCode("InvalidAMIName.Duplicate", 400)
        case .launchTemplate: WireErrorCode("InvalidLaunchTemplateName.AlreadyExistsException", 400)
        case .placementGroup: WireErrorCode("InvalidPlacementGroup.Duplicate", 400)
        case .internetGateway, .routeTable: WireErrorCode("Resource.AlreadyAssociated", 400)
        case .subnet: WireErrorCode("InvalidSubnet.Conflict", 400)
        case .vpc: WireErrorCode("DefaultVpcAlreadyExists", 400)
        case .keyPair: WireErrorCode("InvalidKeyPair.Duplicate", 400)
        case .securityGroup: WireErrorCode("InvalidGroup.Duplicate", 400)
        case .securityGroupRule: WireErrorCode("InvalidPermission.Duplicate", 400)
        case .bucket: WireErrorCode("BucketAlreadyExists", 409)
        case .user: WireErrorCode("EntityAlreadyExists", 409)
        case .address, .addressAssociation, .attachment: WireErrorCode("Resource.AlreadyAssociated", 400)
        case .bundleTask: WireErrorCode("BundlingInProgress", 400)
        case .dhcpOptions, .instance, .instanceType, .networkAcl, .networkInterface, .node, .object, .reservation, .snapshot, .upload,
            .volume, .zone:
            WireErrorCode("ResourceAlreadyExists", 400)
        }
    }

    private static func inUse(_ kind: ResourceKind) -> WireErrorCode {
        switch kind {
        case .address: WireErrorCode("InvalidIPAddress.InUse", 400)
        case .securityGroup: WireErrorCode("InvalidGroup.InUse", 400)
        case .snapshot: WireErrorCode("InvalidSnapshot.InUse", 400)
        case .volume: WireErrorCode("VolumeInUse", 400)
        case .image: WireErrorCode("InvalidAMIID.InUse", 400)
        case .networkInterface: WireErrorCode("InvalidNetworkInterface.InUse", 400)
        case .placementGroup: WireErrorCode("InvalidPlacementGroup.InUse", 400)
        case .addressAssociation, .attachment, .bucket, .bundleTask, .dhcpOptions, .instance, .instanceType, .internetGateway, .keyPair,
            .launchTemplate, .networkAcl, .node, .object, .reservation, .routeTable, .securityGroupRule, .subnet, .upload, .user, .vpc,
            .zone:
            WireErrorCode("DependencyViolation", 400)
        }
    }

    private static func incorrectState(_ kind: ResourceKind) -> WireErrorCode {
        switch kind {
        case .instance: WireErrorCode("IncorrectInstanceState", 400)
        case .image: WireErrorCode("InvalidAMIID.Unavailable", 400)
        case .bundleTask: WireErrorCode("BundleTask.IncorrectState", 400)
        case .volume, .snapshot, .attachment, .address, .addressAssociation, .bucket, .dhcpOptions, .instanceType,
            .internetGateway, .keyPair, .launchTemplate, .networkAcl, .networkInterface, .node, .object, .placementGroup, .reservation,
            .routeTable, .securityGroup, .securityGroupRule, .subnet, .upload, .user, .vpc, .zone:
            WireErrorCode("IncorrectState", 400)
        }
    }

    private static func limit(_ name: LimitName) -> WireErrorCode {
        switch name {
        case .instances: WireErrorCode("InstanceLimitExceeded", 400)
        case .cores: WireErrorCode("VcpuLimitExceeded", 400)
        case .volumes, .volumeGiB: WireErrorCode("VolumeLimitExceeded", 400)
        case .snapshots: WireErrorCode("SnapshotLimitExceeded", 400)
        case .addresses: WireErrorCode("AddressLimitExceeded", 400)
        case .keyPairs: WireErrorCode("KeyPairLimitExceeded", 400)
        case .securityGroups: WireErrorCode("SecurityGroupLimitExceeded", 400)
        case .rulesPerGroup: WireErrorCode("RulesPerSecurityGroupLimitExceeded", 400)
        case .buckets: WireErrorCode("TooManyBuckets", 400)
        case .objectBytes: WireErrorCode("ResourceLimitExceeded", 400)
        }
    }

    /// What the cloud has not got now is the server's side: clients retry it.
    private static func capacity(_ resource: Shortage.Resource) -> WireErrorCode {
        switch resource {
        case .cores, .memoryMiB, .diskGiB, .cacheMiB, .nodes: WireErrorCode("InsufficientInstanceCapacity", 503)
        case .privateAddresses, .publicAddresses: WireErrorCode("InsufficientAddressCapacity", 503)
        case .volumeGiB: WireErrorCode("InsufficientVolumeCapacity", 503)
        case .snapshotGiB, .objectBytes: WireErrorCode("InsufficientCapacity", 503)
        case .connections: WireErrorCode("RequestLimitExceeded", 503)
        }
    }

    static func authentication(_ failure: AuthenticationFailure) -> WireErrorCode {
        switch failure {
        case .missing: WireErrorCode("MissingAuthenticationToken", 403)
        case .badSignature: WireErrorCode("SignatureDoesNotMatch", 403)
        case .expired, .notYetValid: WireErrorCode("RequestExpired", 400)
        case .insecure: WireErrorCode("InvalidSecurity", 403)
        case .unknownKey, .replayed, .malformed: WireErrorCode("AuthFailure", 401)
        }
    }
}

/// The codes of IAM and STS. Source: AWS IAM API Reference, "Common Errors".
public enum IAMErrorCode {
    public static func code(for reason: CloudError.Reason) -> WireErrorCode {
        switch reason {
        case .notFound: WireErrorCode("NoSuchEntity", 404)
        case .malformedID, .invalidParameter, .invalidCombination: WireErrorCode("ValidationError", 400)
        case .duplicate: WireErrorCode("EntityAlreadyExists", 409)
        case .inUse: WireErrorCode("DeleteConflict", 409)
        case .incorrectState, .stale: WireErrorCode("EntityTemporarilyUnmodifiable", 409)
        case .missingParameter: WireErrorCode("MissingParameter", 400)
        case .unknownAction: WireErrorCode("InvalidAction", 400)
        case .malformedRequest: WireErrorCode("MalformedQueryString", 400)
        case .requestTooLarge: WireErrorCode("RequestEntityTooLarge", 413)
        case .limitExceeded: WireErrorCode("LimitExceeded", 409)
        case .capacity, .unavailable: WireErrorCode("ServiceUnavailable", 503)
        case .unauthenticated(let failure):
            switch failure {
            case .unknownKey: WireErrorCode("InvalidClientTokenId", 403)
            case .missing, .badSignature, .expired, .notYetValid, .replayed, .malformed, .insecure: EC2ErrorCode.authentication(failure)
            }
        case .forbidden: WireErrorCode("AccessDenied", 403)
        case .dryRunSucceeded: WireErrorCode("DryRunOperation", 412)
        case .idempotencyMismatch: WireErrorCode("IdempotentParameterMismatch", 400)
        case .bug: WireErrorCode("ServiceFailure", 500)
        case .named(let code, let status): WireErrorCode(code, status)
        }
    }
}
