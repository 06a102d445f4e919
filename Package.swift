// swift-tools-version:6.2
import PackageDescription

// Every target of Karri on one screen each: the C libraries, the shared rooms, the five daemons, the tests.
// The arrows drawn here are held to ARCHITECTURE by Tests/StyleTests/arrows.txt; an import that is not there is a defect.

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

/// A C library of the system: a module map and a shim header, nothing else.
func clib(_ name: String, _ pkgConfig: String, _ apt: String) -> Target {
    .systemLibrary(name: name, path: "Sources/Shared/CLibraries/\(name)", pkgConfig: pkgConfig, providers: [.apt([apt])])
}

/// A shared room.
func room(_ name: String, _ dependencies: [Target.Dependency] = [], exclude: [String] = []) -> Target {
    .target(name: name, dependencies: dependencies, path: "Sources/Shared/\(name)", exclude: exclude, swiftSettings: settings)
}

/// A daemon: its testable Kit and its executable.
func daemon(_ folder: String, _ executable: String, _ dependencies: [Target.Dependency]) -> [Target] {
    [
        .target(
            name: "\(folder)Kit",
            dependencies: ["Daemon", "API", "Workflow", "Wire", "Domain", logging, lifecycle, arguments] + dependencies,
            path: "Sources/\(folder)/Kit", swiftSettings: settings),
        .executableTarget(
            name: executable, dependencies: [.target(name: "\(folder)Kit"), "Daemon", logging, lifecycle, arguments],
            path: "Sources/\(folder)/Main",
            swiftSettings: settings),
    ]
}

func tests(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource] = [], exclude: [String] = []) -> Target {
    .testTarget(
        name: name, dependencies: dependencies, path: "Tests/\(name)", exclude: exclude, resources: resources,
        swiftSettings: settings)
}

let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioHTTP1: Target.Dependency = .product(name: "NIOHTTP1", package: "swift-nio")
let nioSSL: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let hummingbird: [Target.Dependency] = [
    .product(name: "HummingbirdCore", package: "hummingbird"), .product(name: "HummingbirdTLS", package: "hummingbird"),
]

let package = Package(
    name: "karri",
    products: [
        .executable(name: "karri-clc", targets: ["karri-clc"]),
        .executable(name: "karri-walrus", targets: ["karri-walrus"]),
        .executable(name: "karri-cc", targets: ["karri-cc"]),
        .executable(name: "karri-sc", targets: ["karri-sc"]),
        .executable(name: "karri-nc", targets: ["karri-nc"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    ],
    targets: [
        clib("CLibvirt", "libvirt", "libvirt-dev"),
        clib("CLibXML2", "libxml-2.0", "libxml2-dev"),
        clib("CPostgres", "libpq", "libpq-dev"),
        clib("COpenSSL", "openssl", "libssl-dev"),
        clib("CCurl", "libcurl", "libcurl4-openssl-dev"),

        room("Domain"),
        room("Wire", ["Domain", "CLibXML2"]),
        room("API", ["Wire", "Domain"], exclude: ["Definitions"]),
        room("Signing", ["Wire", "Domain", "COpenSSL", "CLibXML2"]),
        room("Workflow", ["Domain"]),
        room("Database", ["Workflow", "Domain", "CPostgres"]),
        room("Identity", ["Database", "Signing", "Domain", "Wire"]),
        room(
            "Daemon",
            ["Wire", "Domain", "Signing", "Workflow", "CCurl", nioCore, nioPosix, nioHTTP1, nioSSL, logging, lifecycle, arguments]
                + hummingbird),
        .executableTarget(
            name: "APIGenerator", dependencies: ["Wire", "Domain", arguments], path: "Sources/Shared/APIGenerator", swiftSettings: settings),
    ]
        + daemon("CloudController", "karri-clc", ["Database", "Identity", "Signing"])
        + daemon("Walrus", "karri-walrus", ["Database", "Identity", "Signing", nioCore, nioPosix])
        + daemon("ClusterController", "karri-cc", [])
        + daemon("StorageController", "karri-sc", ["Database", "Signing"])
        + daemon("NodeController", "karri-nc", ["CLibvirt", "Signing", nioCore, nioPosix])
        + [
            .target(
                name: "TestKit", dependencies: ["Domain", "Wire", "API", "Signing", "Database", "Workflow", "Daemon"],
                path: "Tests/TestKit", swiftSettings: settings),
            tests("DomainTests", ["Domain"]),
            tests("WireTests", ["Wire", "API", "Domain", "APIGenerator", "TestKit"], exclude: ["Golden"]),
            tests("SigningTests", ["Signing", "Wire", "Domain", "CLibXML2", "TestKit"], exclude: ["Golden"]),
            tests("DatabaseTests", ["Database", "Workflow", "Domain", "TestKit"]),
            tests("IdentityTests", ["Identity", "Database", "Signing", "Workflow", "Domain", "TestKit"]),
            tests("DaemonTests", ["Daemon", "Signing", "Wire", "API", "Workflow", "Domain", "TestKit"]),
            tests(
                "CloudControllerTests",
                ["CloudControllerKit", "API", "Wire", "Domain", "TestKit", "Workflow", "Database", "Identity", "Daemon", "Signing"],
                exclude: ["Golden"]),
            tests(
                "WalrusTests", ["WalrusKit", "Daemon", "Signing", "Wire", "Domain", "TestKit", "Workflow", "Database", "Identity"],
                exclude: ["Corpus"]),
            tests("ClusterControllerTests", ["ClusterControllerKit", "API", "Wire", "Domain", "Workflow"]),
            tests("StorageControllerTests", ["StorageControllerKit", "API", "Wire", "Domain", "TestKit", "Workflow", "Database"]),
            tests(
                "NodeControllerTests", ["NodeControllerKit", "Daemon", "API", "Wire", "Domain", "TestKit", "Workflow", "Signing", logging],
                exclude: ["Golden"]),
            tests(
                "ContractTests",
                [
                    "NodeControllerKit", "Daemon", "StorageControllerKit", "ClusterControllerKit", "API", "Wire", "Domain", "TestKit",
                    "Workflow", logging,
                ]),
            tests(
                "SimulationTests",
                [
                    "CloudControllerKit", "NodeControllerKit", "StorageControllerKit", "ClusterControllerKit", "API", "Wire", "Domain",
                    "Daemon",
                    "TestKit", "Workflow", "Database", "Identity", "Signing", logging,
                ]),
            tests("StyleTests", ["Domain"], exclude: ["arrows.txt"]),
        ]
)

// `KARRI_ROOMS=WireTests,SigningTests swift test` prunes the package to what these targets need, so that one room can be worked on
// while another does not compile.
if let rooms = Context.environment["KARRI_ROOMS"], !rooms.isEmpty {
    var wanted = Set(rooms.split(separator: ",").map(String.init))
    var grew = true
    while grew {
        grew = false
        for target in package.targets where wanted.contains(target.name) {
            for dependency in target.dependencies {
                let name: String? =
                    switch dependency {
                    case .targetItem(let name, _), .byNameItem(let name, _): name
                    default: nil
                    }
                if let name, wanted.insert(name).inserted { grew = true }
            }
        }
    }
    package.targets = package.targets.filter { wanted.contains($0.name) }
    package.products = []
}
