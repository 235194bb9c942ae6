// expect: a list of a class cannot view elements of a larger derived class
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

#include <vector>

namespace prom = prometheus_async;
struct named : prom::label {
    int number = 0;
};
const std::vector<named> labels(2);
prom::gauge depth{"depth", "Jobs.", {.labels = labels}};
