// expect: define_PROMETHEUS_ASYNC_IMPLEMENTATION_in_exactly_one_source_file_or_PROMETHEUS_ASYNC_SHARED_in_all
// links
#include "prometheus_async.hpp"

int main() { return prometheus_async::counter("jobs", "Jobs.").value() > 0; }
