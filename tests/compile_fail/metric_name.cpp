// expect: a_metric_name_matches_letter_or_underscore_or_colon_then_also_digits
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
prom::counter c{"http-requests", "A name with a dash."};
