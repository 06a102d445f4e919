import Daemon
import Testing

@Suite struct MetricsTests {
    @Test func exposition() {
        let registry = MetricsRegistry()
        registry.counter("requests_total", ["code": "200"], help: "Requests").increment(by: 3)
        registry.counter("requests_total", ["code": "200"]).increment()
        registry.gauge("free", ["where": "a\"b\\"]).set(1.5)
        let histogram = registry.histogram("seconds", bounds: [0.5, 2])
        histogram.observe(0.5)
        histogram.observe(1)
        histogram.observe(9)
        #expect(
            registry.text() == """
                # TYPE free gauge
                free{where="a\\"b\\\\"} 1.5
                # HELP requests_total Requests
                # TYPE requests_total counter
                requests_total{code="200"} 4
                # TYPE seconds histogram
                seconds_bucket{le="0.5"} 1
                seconds_bucket{le="2"} 2
                seconds_bucket{le="+Inf"} 3
                seconds_sum 10.5
                seconds_count 3

                """)
    }

    @Test func healthIsServingOnlyWhenAllHaveStarted() {
        let health = HealthRegistry(daemon: "x")
        health.set("a", .ok)
        health.set("b", .starting)
        #expect(!health.isServing && !health.hasStarted)
        health.set("b", .degraded("slow \"disk\""))
        #expect(health.isServing && health.hasStarted)
        #expect(health.json().contains("\"b\":{\"status\":\"degraded\",\"reason\":\"slow \\\"disk\\\"\"}"))
        health.set("b", .failed("x"))
        #expect(!health.isServing && health.hasStarted)
    }
}
