import API
import Database
import Domain
import Wire

/// A kind of row that a Describe action shows: by ids, through filters, in pages.
protocol Described: Sendable {
    associatedtype Kind: IdentifierKind
    /// The filters that EC2 documents for it. `tag` stands for all that has to do with tags.
    static var filters: Set<String> { get }
    var describedID: String { get }
    /// What it has for a filter's name.
    func values(_ filter: String) -> [String]
}

/// What a Describe action shows.
struct DescribedPage<Item: Sendable>: Sendable {
    let items: [Item]
    let tags: [String: [ResourceTag]]
    let nextToken: String?

    func tags(_ id: String) -> [EC2.Tag] { (tags[id] ?? []).map(\.wire) }
}

extension CloudServices {
    /// The common part of a Describe action.
    /// - Parameters:
    ///   - ids: those that the request names; each must be there. Empty: all.
    ///   - load: all of the account, in one snapshot.
    /// - Throws: `.malformedID`, `.notFound` with the ids that are not there, what `Filters` and `Paging` throw.
    func describe<R: WireRequest, T: Described>(
        _ request: R, _ op: OperationContext, ids: [String], filters: [EC2.Filter], maxResults: Int?, nextToken: String?, dryRun: Bool?,
        _ load: @escaping @Sendable (Transaction) throws -> [T]
    ) async throws(CloudError) -> DescribedPage<T> {
        for id in ids { _ = try Identifier<T.Kind>(parsing: id) }
        let filters = try Filters(filters, known: T.filters)
        let paging = try paging(request, op, maxResults: maxResults, nextToken: nextToken)
        try op.endDryRun(dryRun)
        let (all, tags) = try await pool.read { tx in
            let all = try load(tx)
            return (all, try TagStore.tags(tx, all.map(\.describedID)))
        }
        let known = Set(all.map(\.describedID))
        let missing = ids.filter { !known.contains($0) }
        guard missing.isEmpty else { throw CloudError(.notFound(T.Kind.resource, id: missing.joined(separator: ", "))) }
        let wanted = Set(ids)
        let found = all.filter { item in
            (wanted.isEmpty || wanted.contains(item.describedID))
                && filters.match(tags: (tags[item.describedID] ?? []).byKey) { item.values($0) }
        }
        let (page, next) = paging.page(found.sorted { $0.describedID < $1.describedID }, by: \.describedID)
        return DescribedPage(items: page, tags: tags, nextToken: next)
    }
}

/// A filter's value of something that may not be there.
func one(_ value: String?) -> [String] { value.map { $0.isEmpty ? [] : [$0] } ?? [] }
