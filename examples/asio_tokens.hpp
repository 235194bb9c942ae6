// The verbs on asio's completion tokens: copy this file beside prometheus_async.hpp. Include it after <asio.hpp>,
// <boost/asio.hpp>, or both:
//
//     co_await timer.async_wait(prom_asio::measured(prom::time(wait_time), asio::use_awaitable));
//     timer.async_wait(prom_asio::measured(prom::track_inprogress(waiting), asio::detached));
//
// Any decorator and any token. The clock starts when the operation is initiated: with a lazy token
// (use_awaitable, deferred) that is when it is awaited. asio's awaitables and plain handlers do not need this header:
// prom::time(h)(coroutine), prom::time(h, prom::completion(handler)). But a handler whose executor or allocator
// asio finds through a trait, and not in the handler, keeps them only with this header.
#ifndef PROMETHEUS_ASYNC_ASIO_TOKENS_HPP
#define PROMETHEUS_ASYNC_ASIO_TOKENS_HPP

#ifndef PROMETHEUS_ASYNC_HPP
#include "prometheus_async.hpp"
#endif

namespace prom_asio {

template <class Decorator, class Token>
struct measured_token {
    Decorator decorator;
    Token token;
};

template <class Decorator, class Token>
measured_token<Decorator, std::decay_t<Token>> measured(Decorator decorator, Token&& token) {
    return {std::move(decorator), std::forward<Token>(token)};
}

/// Starts the operation with the measured handler.
template <class Decorator, class Initiation>
struct measured_initiation : prometheus_async::detail::executor_of<Initiation> {
    measured_initiation(Decorator d, Initiation i) : decorator(std::move(d)), initiation(std::move(i)) {}
    auto get_executor() const noexcept requires requires(const Initiation& i) { i.get_executor(); } {
        return initiation.get_executor();
    }
    template <class Handler, class... Args>
    void operator()(Handler&& handler, Args&&... args) {
        std::move(initiation)(decorator(prometheus_async::completion(std::forward<Handler>(handler))),
                              std::forward<Args>(args)...);
    }
    Decorator decorator;
    Initiation initiation;
};

}  // namespace prom_asio

#define PROMETHEUS_ASYNC_ASIO_TRAITS                                                                                     \
    template <class Decorator, class Token, class... Signatures>                                                        \
    class async_result<prom_asio::measured_token<Decorator, Token>, Signatures...> {                                    \
    public:                                                                                                             \
        template <class Initiation, class Measured, class... Args>                                                      \
        static auto initiate(Initiation&& initiation, Measured&& measured, Args&&... args) {                            \
            using started = prom_asio::measured_initiation<Decorator, std::decay_t<Initiation>>;                        \
            return async_initiate<Token, Signatures...>(                                                                \
                started(measured.decorator, std::forward<Initiation>(initiation)), measured.token, std::forward<Args>(args)...); \
        }                                                                                                               \
    };                                                                                                                  \
    template <template <class, class> class Associator, class Handler, class Scope, class Default>                      \
    struct associator<Associator, prometheus_async::completion_handler<Handler, Scope>, Default> : Associator<Handler, Default> { \
        using measured = prometheus_async::completion_handler<Handler, Scope>;                                          \
        static auto get(const measured& m) noexcept { return Associator<Handler, Default>::get(m.handler()); }          \
        static auto get(const measured& m, const Default& d) noexcept {                                                 \
            return Associator<Handler, Default>::get(m.handler(), d);                                                   \
        }                                                                                                               \
    };

#ifdef ASIO_VERSION
namespace asio { PROMETHEUS_ASYNC_ASIO_TRAITS }
#endif
#ifdef BOOST_ASIO_VERSION
namespace boost::asio { PROMETHEUS_ASYNC_ASIO_TRAITS }
#endif
#undef PROMETHEUS_ASYNC_ASIO_TRAITS

#endif
