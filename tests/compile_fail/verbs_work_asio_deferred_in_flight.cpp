// expect: measure its token, by examples/asio_tokens.hpp
#include "prometheus_async.hpp"
namespace boost::asio {
template <class Signature>
struct deferred_async_operation {
    template <class Token>
    auto operator()(Token&& token) && { return token(0); }
};
}
struct metric { void observe(double) {} void inc() {} void dec() {} };
metric m;
boost::asio::deferred_async_operation<void(int)> f();
void g() { prometheus_async::time(m, f()); }
