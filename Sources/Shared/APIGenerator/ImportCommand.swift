import ArgumentParser

/// `APIGenerator import --model service-2.json --resource Vpcs --action CreateVpc --action DescribeVpcs`: writes or extends
/// `Definitions/ec2/vpcs.json`. What comes out is a draft: dates, documents and examples are ours to add.
struct Import: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes or extends a definition from botocore's model of a service (uncompressed service-2.json): facts only.")
    @Option(help: "Folder of the definitions.")
    var definitions = "Sources/Shared/API/Definitions"
    @Option(help: "The model, uncompressed.")
    var model: String
    @Option(help: "The resource: the file is <service>/<resource in lower case>.json.")
    var resource: String
    @Option(help: "An action; may be repeated.")
    var action: [String]
    @Option(help: "The first API date that has the actions.")
    var since: String?

    func run() throws {
        let source = try ServiceModel(JSON(parsing: try Files.read(model)))
        let path = "\(definitions)/\(source.service.lowercased())/\(resource.lowercased()).json"
        let file = try Files.readIfPresent(path).map { try JSON(parsing: $0) }
        var known: Set<String> = []
        for other in try Files.list(definitions, suffix: ".json") where "\(definitions)/\(other)" != path {
            let json = try JSON(parsing: try Files.read("\(definitions)/\(other)"))
            guard json["service"]?.string == source.service else { continue }
            known.formUnion((json["shapes"]?.fields ?? []).map(\.key))
        }
        var importer = Importer(source, known: known, since: since)
        let extended = try importer.extend(file, resource: resource, actions: action)
        try Files.write(Array(DefinitionText.render(extended).utf8), path)
        for note in importer.notes { Report.say(note) }
        Report.say("\(path): \(extended["actions"]?.array?.count ?? 0) actions, \(extended["shapes"]?.fields?.count ?? 0) shapes")
    }
}
