import API
import Domain
import Wire

extension OperationContext {
    /// With `DryRun` everything is checked and nothing is changed: called at the point where the work would begin. Within a transaction the
    /// error takes back what was tried.
    /// - Throws: `.dryRunSucceeded`.
    func endDryRun(_ flag: Bool?) throws(CloudError) {
        if flag == true { throw CloudError(.dryRunSucceeded) }
    }
}

extension CloudServices {
    /// The pages of a Describe action. See `Paging`.
    func paging<R: WireRequest>(
        _ request: R, _ op: OperationContext, maxResults: Int?, nextToken: String?
    ) throws(CloudError) -> Paging {
        try Paging(
            maxResults: maxResults, nextToken: nextToken, action: R.operation.name, accountID: op.accountID, request: request.wireValue,
            key: keys.paging, now: op.now)
    }
}
