public import API
public import Domain
import Identity

/// Access keys, signing certificates and passwords.
extension IAMActions: IAMAccessKeysActions {
    private static func missing(_ id: String, _ error: CloudError) -> CloudError {
        guard case .notFound(.keyPair, _) = error.reason else { return error }
        return CloudError(
            .named(code: "NoSuchEntity", status: 404), "The Access Key with id \(id.prefix(128)) cannot be found.",
            context: error.context)
    }

    /// The secret is shown now and never again.
    public func createAccessKey(
        _ request: IAM.CreateAccessKey, _ op: OperationContext
    ) async throws(CloudError) -> IAM.CreateAccessKeyResponse {
        let user = try userName(request.userName, op)
        return try await change(op, "CreateAccessKey", user ?? "root") { t in
            if let user { _ = try EntityStore.fetch(t, .user, user, account: op.accountID) }
            let pair = try cloud.identity.accessKeyCreate(t, account: op.accountID, user: user, now: op.now)
            return IAM.CreateAccessKeyResponse(
                accessKey: IAM.AccessKey(
                    userName: user, accessKeyId: pair.id, status: "Active", secretAccessKey: pair.secret, createDate: op.now))
        }
    }

    public func deleteAccessKey(
        _ request: IAM.DeleteAccessKey, _ op: OperationContext
    ) async throws(CloudError) -> IAM.DeleteAccessKeyResponse {
        let user = try userName(request.userName, op)
        do throws(CloudError) {
            return try await change(op, "DeleteAccessKey", "\(user ?? "root") \(request.accessKeyId)") { t in
                try IdentityStore.accessKeyDelete(t, request.accessKeyId, account: op.accountID, user: user ?? "root")
                return IAM.DeleteAccessKeyResponse()
            }
        } catch { throw Self.missing(request.accessKeyId, error) }
    }

    public func updateAccessKey(
        _ request: IAM.UpdateAccessKey, _ op: OperationContext
    ) async throws(CloudError) -> IAM.UpdateAccessKeyResponse {
        let user = try userName(request.userName, op)
        do throws(CloudError) {
            return try await change(op, "UpdateAccessKey", "\(user ?? "root") \(request.accessKeyId) \(request.status)") { t in
                try IdentityStore.accessKeySetActive(
                    t, request.accessKeyId, account: op.accountID, user: user ?? "root", active: request.status == "Active")
                return IAM.UpdateAccessKeyResponse()
            }
        } catch { throw Self.missing(request.accessKeyId, error) }
    }

    public func listAccessKeys(
        _ request: IAM.ListAccessKeys, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListAccessKeysResponse {
        let user = try userName(request.userName, op)
        let keys = try await read { t in
            if let user { _ = try EntityStore.fetch(t, .user, user, account: op.accountID) }
            return try IdentityStore.accessKeyList(t, account: op.accountID, user: user)
        }
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, keys, by: \.id)
        return IAM.ListAccessKeysResponse(
            accessKeyMetadata: page.items.map {
                IAM.AccessKeyMetadata(
                    userName: user, accessKeyId: $0.id, status: $0.isActive ? "Active" : "Inactive", createDate: $0.created)
            }, isTruncated: page.isTruncated, marker: page.marker)
    }

    public func getAccessKeyLastUsed(
        _ request: IAM.GetAccessKeyLastUsed, _ op: OperationContext
    ) async throws(CloudError) -> IAM.GetAccessKeyLastUsedResponse {
        do throws(CloudError) {
            return try await read { t in
                let (account, key) = try IdentityStore.accessKeyFetch(t, request.accessKeyId)
                guard account == op.accountID else { throw CloudError(.notFound(.keyPair, id: request.accessKeyId)) }
                return IAM.GetAccessKeyLastUsedResponse(
                    userName: key.userName == "root" ? nil : key.userName,
                    accessKeyLastUsed: IAM.AccessKeyLastUsed(
                        lastUsedDate: key.used?.at, serviceName: key.used?.service ?? "N/A", region: key.used?.region ?? "N/A"))
            }
        } catch { throw Self.missing(request.accessKeyId, error) }
    }
}

extension IAMActions: IAMSigningCertificatesActions {
    private static func missing(certificate id: String, _ error: CloudError) -> CloudError {
        guard case .notFound(.keyPair, _) = error.reason else { return error }
        return CloudError(
            .named(code: "NoSuchEntity", status: 404), "The Certificate with id \(id.prefix(128)) cannot be found.",
            context: error.context)
    }

    private static func shown(_ certificate: SigningCertificate, _ user: String?) -> IAM.SigningCertificate {
        IAM.SigningCertificate(
            userName: user, certificateId: certificate.fingerprint, certificateBody: certificate.pem,
            status: certificate.isActive ? "Active" : "Inactive", uploadDate: certificate.created)
    }

    public func uploadSigningCertificate(
        _ request: IAM.UploadSigningCertificate, _ op: OperationContext
    ) async throws(CloudError) -> IAM.UploadSigningCertificateResponse {
        let user = try userName(request.userName, op)
        do throws(CloudError) {
            return try await change(op, "UploadSigningCertificate", user ?? "root") { t in
                if let user { _ = try EntityStore.fetch(t, .user, user, account: op.accountID) }
                let added = try IdentityStore.certificateAdd(
                    t, pem: request.certificateBody, account: op.accountID, user: user, now: op.now)
                return IAM.UploadSigningCertificateResponse(certificate: Self.shown(added, user))
            }
        } catch {
            switch error.reason {
            case .duplicate:
                throw CloudError(.named(code: "DuplicateCertificate", status: 409), "Somebody has this certificate already.")
            case .invalidParameter: throw CloudError(.named(code: "MalformedCertificate", status: 400), error.message)
            default: throw error
            }
        }
    }

    public func updateSigningCertificate(
        _ request: IAM.UpdateSigningCertificate, _ op: OperationContext
    ) async throws(CloudError) -> IAM.UpdateSigningCertificateResponse {
        let user = try userName(request.userName, op)
        do throws(CloudError) {
            return try await change(op, "UpdateSigningCertificate", "\(user ?? "root") \(request.certificateId) \(request.status)") { t in
                try IdentityStore.certificateSetActive(
                    t, fingerprint: request.certificateId, account: op.accountID, user: user, active: request.status == "Active")
                return IAM.UpdateSigningCertificateResponse()
            }
        } catch { throw Self.missing(certificate: request.certificateId, error) }
    }

    public func deleteSigningCertificate(
        _ request: IAM.DeleteSigningCertificate, _ op: OperationContext
    ) async throws(CloudError) -> IAM.DeleteSigningCertificateResponse {
        let user = try userName(request.userName, op)
        do throws(CloudError) {
            return try await change(op, "DeleteSigningCertificate", "\(user ?? "root") \(request.certificateId)") { t in
                try IdentityStore.certificateDelete(t, fingerprint: request.certificateId, account: op.accountID, user: user)
                return IAM.DeleteSigningCertificateResponse()
            }
        } catch { throw Self.missing(certificate: request.certificateId, error) }
    }

    public func listSigningCertificates(
        _ request: IAM.ListSigningCertificates, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListSigningCertificatesResponse {
        let user = try userName(request.userName, op)
        let list = try await read { t in
            if let user { _ = try EntityStore.fetch(t, .user, user, account: op.accountID) }
            return try IdentityStore.certificateList(t, account: op.accountID, user: user)
        }
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, list, by: \.fingerprint)
        return IAM.ListSigningCertificatesResponse(
            certificates: page.items.map { Self.shown($0, user) }, isTruncated: page.isTruncated, marker: page.marker)
    }
}

extension IAMActions: IAMLoginProfilesActions {
    /// The root of an account has no password here: there is nothing that it would open.
    private func passwordUser(_ name: String?, _ op: OperationContext) throws(CloudError) -> String {
        guard let user = try userName(name, op) else {
            throw CloudError(.named(code: "InvalidUserType", status: 400), "The account's root has no login profile.")
        }
        return user
    }

    public func createLoginProfile(
        _ request: IAM.CreateLoginProfile, _ op: OperationContext
    ) async throws(CloudError) -> IAM.CreateLoginProfileResponse {
        let name = try passwordUser(request.userName, op)
        guard let password = request.password else { throw CloudError(.missingParameter("Password")) }
        return try await change(op, "CreateLoginProfile", name) { t in
            let user = try EntityStore.fetch(t, .user, name, account: op.accountID)
            let profile = try LoginStore.create(
                t, user, password: password, mustReset: request.passwordResetRequired ?? false, now: op.now)
            return IAM.CreateLoginProfileResponse(
                loginProfile: IAM.LoginProfile(
                    userName: user.name, createDate: profile.created, passwordResetRequired: profile.mustReset))
        }
    }

    public func getLoginProfile(
        _ request: IAM.GetLoginProfile, _ op: OperationContext
    ) async throws(CloudError) -> IAM.GetLoginProfileResponse {
        let name = try passwordUser(request.userName, op)
        return try await read { t in
            let user = try EntityStore.fetch(t, .user, name, account: op.accountID)
            let profile = try LoginStore.fetch(t, user)
            return IAM.GetLoginProfileResponse(
                loginProfile: IAM.LoginProfile(
                    userName: user.name, createDate: profile.created, passwordResetRequired: profile.mustReset))
        }
    }

    public func updateLoginProfile(
        _ request: IAM.UpdateLoginProfile, _ op: OperationContext
    ) async throws(CloudError) -> IAM.UpdateLoginProfileResponse {
        try await change(op, "UpdateLoginProfile", request.userName) { t in
            let user = try EntityStore.fetch(t, .user, request.userName, account: op.accountID)
            try LoginStore.update(t, user, password: request.password, mustReset: request.passwordResetRequired)
            return IAM.UpdateLoginProfileResponse()
        }
    }

    public func deleteLoginProfile(
        _ request: IAM.DeleteLoginProfile, _ op: OperationContext
    ) async throws(CloudError) -> IAM.DeleteLoginProfileResponse {
        let name = try passwordUser(request.userName, op)
        return try await change(op, "DeleteLoginProfile", name) { t in
            try LoginStore.delete(t, try EntityStore.fetch(t, .user, name, account: op.accountID))
            return IAM.DeleteLoginProfileResponse()
        }
    }

    public func changePassword(
        _ request: IAM.ChangePassword, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ChangePasswordResponse {
        let name = try passwordUser(nil, op)
        return try await change(op, "ChangePassword", name) { t in
            let user = try EntityStore.fetch(t, .user, name, account: op.accountID)
            try LoginStore.change(t, user, old: request.oldPassword, new: request.newPassword)
            return IAM.ChangePasswordResponse()
        }
    }
}
