// expect: a sender is measured with examples/stdexec_senders.hpp
#include "prometheus_async.hpp"
struct metric { void observe(double) {} void inc() {} void dec() {} };
metric m;
struct sender { using sender_concept = struct sender_tag; };
const sender& f();
void g() { prometheus_async::count_exceptions(m)(f)(); }
