// A double of stdexec for tests: the same member names, as far as examples/stdexec_senders.hpp uses them, and three
// senders.
#pragma once
#include <tuple>
#include <type_traits>
#include <utility>

namespace stdexec {

struct sender_tag {};
struct receiver_tag {};
struct operation_state_tag {};

struct set_value_t {
    template <class R, class... Values>
    void operator()(R&& r, Values&&... values) const noexcept { std::move(r).set_value(static_cast<Values&&>(values)...); }
};
struct set_error_t {
    template <class R, class Error>
    void operator()(R&& r, Error&& error) const noexcept { std::move(r).set_error(static_cast<Error&&>(error)); }
};
struct set_stopped_t {
    template <class R>
    void operator()(R&& r) const noexcept { std::move(r).set_stopped(); }
};
inline constexpr set_value_t set_value{};
inline constexpr set_error_t set_error{};
inline constexpr set_stopped_t set_stopped{};

template <class... Signatures>
struct completion_signatures {};
template <class S, class... Env>
using completion_signatures_of_t = decltype(std::remove_reference_t<S>::template get_completion_signatures<S, Env...>());

template <class T>
decltype(auto) get_env(const T& of) noexcept { return of.get_env(); }
template <class S, class R>
auto connect(S&& sender, R receiver) { return static_cast<S&&>(sender).connect(std::move(receiver)); }
template <class S, class R>
using connect_result_t = decltype(stdexec::connect(std::declval<S>(), std::declval<R>()));
template <class O>
void start(O& operation) noexcept { operation.start(); }

/// Completes when it is started, with one signal.
template <class Signal, class... Values>
struct at_once {
    using sender_concept = sender_tag;
    struct env { int id = 0; };
    std::tuple<Values...> values;
    int id = 1;

    template <class Self, class... Env>
    static consteval auto get_completion_signatures() -> completion_signatures<Signal(Values...)> { return {}; }
    template <class R>
    struct operation {
        using operation_state_concept = operation_state_tag;
        std::tuple<Values...> values;
        R receiver;
        void start() noexcept {
            std::apply([&](Values&... v) { Signal{}(std::move(receiver), std::move(v)...); }, values);
        }
    };
    template <class R>
    operation<R> connect(R receiver) && { return {std::move(values), std::move(receiver)}; }
    template <class R>
    operation<R> connect(R receiver) const& { return {values, std::move(receiver)}; }
    env get_env() const noexcept { return {id}; }
};
template <class... Values>
at_once<set_value_t, std::decay_t<Values>...> just(Values&&... values) { return {{static_cast<Values&&>(values)...}}; }
template <class Error>
at_once<set_error_t, std::decay_t<Error>> just_error(Error&& error) { return {{static_cast<Error&&>(error)}}; }
inline at_once<set_stopped_t> just_stopped() { return {{}}; }

}  // namespace stdexec
