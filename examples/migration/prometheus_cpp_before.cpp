// A program with prometheus-cpp. prometheus_cpp_after.cpp is the same program with prometheus_async.hpp, line by line.
//
//     c++ -std=c++17 examples/migration/prometheus_cpp_before.cpp -o before -pthread -lprometheus-cpp-pull -lprometheus-cpp-core
#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/summary.h>
#include <prometheus/text_serializer.h>

#include <cstdio>
#include <memory>
#include <string>

// Values that live elsewhere.
class pool final : public prometheus::Collectable {
public:
    std::vector<prometheus::MetricFamily> Collect() const override {
        prometheus::ClientMetric one;
        one.gauge.value = 8;
        one.label = {{"pool", "main"}};
        return {{"pool_size", "Workers that exist.", prometheus::MetricType::Gauge, {one}}};
    }
};

int main(int argc, char** argv) {
    auto registry = std::make_shared<prometheus::Registry>();

    auto& requests = prometheus::BuildCounter().Name("http_requests_total").Help("Requests served.").Labels({{"service", "shop"}}).Register(*registry);
    auto& get_ok = requests.Add({{"method", "GET"}, {"status", "200"}});
    auto& post_bad = requests.Add({{"method", "POST"}, {"status", "500"}});
    get_ok.Increment();
    get_ok.Increment(2);
    post_bad.Increment();
    requests.Remove(&post_bad);

    auto& depth = prometheus::BuildGauge().Name("queue_depth").Help("Jobs that wait.").Register(*registry).Add({});
    depth.Set(5);
    depth.Increment();
    depth.Decrement(2);

    auto& took = prometheus::BuildHistogram().Name("job_seconds").Help("Time to do a job.").Register(*registry)
                     .Add({{"queue", "mail"}}, prometheus::Histogram::BucketBoundaries{0.1, 1, 10});
    took.Observe(0.25);
    took.Observe(2.5);

    auto& size = prometheus::BuildSummary().Name("job_bytes").Help("Size of a job.").Register(*registry).Add({}, prometheus::Summary::Quantiles{});
    size.Observe(1024);

    auto workers = std::make_shared<pool>();

    prometheus::Exposer exposer{"127.0.0.1:" + std::string(argc > 1 ? argv[1] : "9464")};
    exposer.RegisterCollectable(registry);
    exposer.RegisterCollectable(workers);
    exposer.RegisterAuth([](const std::string& user, const std::string& password) { return user == "scraper" && password == "secret"; });
    std::printf("http://127.0.0.1:%d/\n", exposer.GetListeningPorts().at(0));
    std::fflush(stdout);

    std::fputs(prometheus::TextSerializer().Serialize(registry->Collect()).c_str(), stderr);  // a page without the server
    std::getchar();
}
