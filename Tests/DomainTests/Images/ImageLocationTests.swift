import Domain
import Testing

@Suite struct ImageLocationTests {
    @Test func locationsAreBucketAndKey() throws {
        #expect(try ImageLocation(parsing: "images/a/b.manifest.xml", parameter: "ImageLocation").key == "a/b.manifest.xml")
        #expect(try ImageLocation(parsing: "s3://images/x", parameter: "ImageLocation").bucket == "images")
        #expect(try ImageLocation(parsing: "/images/x", parameter: "ImageLocation").description == "images/x")
    }
    @Test(arguments: ["", "x", "images", "images/", "im/x", "../x", "a b c/x", "images/\u{1}"]) func badLocations(_ text: String) {
        #expect(throws: CloudError.self) { try ImageLocation(parsing: text, parameter: "ImageLocation") }
    }
}
