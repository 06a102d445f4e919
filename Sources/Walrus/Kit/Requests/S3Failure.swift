import Domain

/// The errors that only S3 knows, by name. Codes, statuses and texts: Amazon S3 API reference, "Error responses".
enum S3Failure {
    static func named(_ code: String, _ status: Int, _ message: String, context: String = "") -> CloudError {
        CloudError(.named(code: code, status: status), message, context: context)
    }

    static func noSuchBucket(_ name: String) -> CloudError { named("NoSuchBucket", 404, "The specified bucket does not exist") }
    static func noSuchKey(_ key: String) -> CloudError { named("NoSuchKey", 404, "The specified key does not exist.") }
    static func noSuchVersion() -> CloudError { named("NoSuchVersion", 404, "The specified version does not exist.") }
    static func noSuchUpload() -> CloudError {
        named(
            "NoSuchUpload", 404,
            "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.")
    }
    static func accessDenied(_ context: String = "") -> CloudError { named("AccessDenied", 403, "Access Denied", context: context) }
    static func preconditionFailed(_ header: String) -> CloudError {
        named("PreconditionFailed", 412, "At least one of the pre-conditions you specified did not hold", context: header)
    }
    static func invalidArgument(_ message: String) -> CloudError { named("InvalidArgument", 400, message) }
    static func invalidRequest(_ message: String) -> CloudError { named("InvalidRequest", 400, message) }
    static func invalidPart(_ message: String? = nil) -> CloudError {
        named(
            "InvalidPart", 400,
            message
                ?? "One or more of the specified parts could not be found.  The part may not have been uploaded, "
                + "or the specified entity tag may not match the part's entity tag."
        )
    }
    static func invalidRange() -> CloudError { named("InvalidRange", 416, "The requested range is not satisfiable") }
    static func malformedXML(_ context: String = "") -> CloudError {
        named(
            "MalformedXML", 400, "The XML you provided was not well-formed or did not validate against our published schema",
            context: context)
    }
    static func badDigest(_ what: String) -> CloudError {
        named("BadDigest", 400, "The \(what) you specified did not match what we received.")
    }
    static func invalidDigest() -> CloudError { named("InvalidDigest", 400, "The Content-MD5 you specified was invalid.") }
    static func entityTooLarge(limit: Int) -> CloudError {
        named("EntityTooLarge", 400, "Your proposed upload exceeds the maximum allowed size of \(limit) bytes")
    }
    static func entityTooSmall(_ part: Int, size: Int) -> CloudError {
        named(
            "EntityTooSmall", 400,
            "Your proposed upload is smaller than the minimum allowed size (part \(part): \(size) bytes, minimum 5242880)")
    }
    static func incompleteBody(received: Int, expected: Int) -> CloudError {
        named(
            "IncompleteBody", 400,
            "You did not provide the number of bytes specified by the Content-Length HTTP header "
                + "(received \(received), expected \(expected))"
        )
    }
    static func missingContentLength() -> CloudError {
        named("MissingContentLength", 411, "You must provide the Content-Length HTTP header.")
    }
    static func payloadHashMismatch() -> CloudError {
        named("XAmzContentSHA256Mismatch", 400, "The provided 'x-amz-content-sha256' header does not match what was computed.")
    }
    static func methodNotAllowed() -> CloudError {
        named("MethodNotAllowed", 405, "The specified method is not allowed against this resource.")
    }
    static func notImplemented(_ message: String) -> CloudError { named("NotImplemented", 501, message) }
    static func insufficientStorage(_ shortage: Shortage) -> CloudError {
        named("InsufficientStorage", 507, "\(shortage.description)")
    }
    static func keyTooLong(_ size: Int, limit: Int) -> CloudError {
        named("KeyTooLongError", 400, "Your key is too long (\(size) bytes, limit \(limit))")
    }
    static func invalidURI() -> CloudError { named("InvalidURI", 400, "Couldn't parse the specified URI.") }
    static func slowDown(_ message: String) -> CloudError { named("SlowDown", 503, message) }
}

/// One switch from Karri's reasons to S3's codes and statuses.
enum S3ErrorCode {
    static func of(_ error: CloudError) -> (code: String, status: Int) {
        switch error.reason {
        case .named(let code, let status): (code, status)
        case .notFound(.bucket, _): ("NoSuchBucket", 404)
        case .notFound(.upload, _): ("NoSuchUpload", 404)
        case .notFound: ("NoSuchKey", 404)
        case .duplicate(.bucket, _): ("BucketAlreadyExists", 409)
        case .duplicate: ("OperationAborted", 409)
        case .inUse, .incorrectState: ("OperationAborted", 409)
        case .missingParameter, .invalidParameter, .malformedID, .invalidCombination, .idempotencyMismatch: ("InvalidArgument", 400)
        case .unknownAction: ("NotImplemented", 501)
        case .malformedRequest: ("InvalidRequest", 400)
        case .requestTooLarge: ("MaxMessageLengthExceeded", 400)
        case .limitExceeded(.buckets, _, _): ("TooManyBuckets", 400)
        case .limitExceeded: ("QuotaExceeded", 403)
        case .capacity: ("InsufficientStorage", 507)
        case .unauthenticated(let failure): authentication(failure)
        case .forbidden: ("AccessDenied", 403)
        case .dryRunSucceeded, .stale: ("OperationAborted", 409)
        case .unavailable: ("ServiceUnavailable", 503)
        case .bug: ("InternalError", 500)
        }
    }

    private static func authentication(_ failure: AuthenticationFailure) -> (String, Int) {
        switch failure {
        case .missing, .insecure, .replayed: ("AccessDenied", 403)
        case .badSignature: ("SignatureDoesNotMatch", 403)
        case .unknownKey: ("InvalidAccessKeyId", 403)
        case .expired, .notYetValid: ("RequestTimeTooSkewed", 403)
        case .malformed: ("AuthorizationHeaderMalformed", 400)
        }
    }
}
