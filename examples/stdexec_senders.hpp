// The verbs on senders. Include it after <stdexec/execution.hpp>; copy it beside prometheus_async.hpp:
//
//     auto fetched = prom::time(fetch_time, stdexec::schedule(pool) | stdexec::then(fetch));   // a sender
//     auto timed = prom::time(fetch_time)(make_sender);                  // a function that returns senders
//
// A measured sender completes as the sender would, at the same place, in the receiver's environment. The clock of
// time(metric, sender) starts at that call, that of a decorated function when its sender is started. It stops when
// the sender completes, before the receiver is called. count_exceptions() counts a set_error() with an exception,
// count_failures() all other set_error() and what its predicate says of the values. set_stopped() is counted by neither.
//
// shape    a measured sender is connected once, as an rvalue, and moves if the sender does; no allocation
#ifndef PROMETHEUS_ASYNC_STDEXEC_SENDERS_HPP
#define PROMETHEUS_ASYNC_STDEXEC_SENDERS_HPP

#ifndef PROMETHEUS_ASYNC_HPP
#include "prometheus_async.hpp"
#endif

namespace prom_stdexec {

/// What the receiver of a measured operation uses.
template <class Scope, class Receiver>
struct measurement {
    Scope scope;
    Receiver receiver;
};

template <class Scope, class Receiver>
struct measured_receiver {
    using receiver_concept = typename Receiver::receiver_concept;
    measurement<Scope, Receiver>* of;

    template <class... Values>
    void set_value(Values&&... values) && noexcept {
        if constexpr (sizeof...(Values) != 0) of->scope.result(std::as_const(values)...);
        of->scope.end();
        stdexec::set_value(std::move(of->receiver), static_cast<Values&&>(values)...);
    }
    template <class Error>
    void set_error(Error&& error) && noexcept {
        if constexpr (std::is_same_v<std::remove_cvref_t<Error>, prometheus_async::fault>) of->scope.failed_with(error);
        else of->scope.failed();
        of->scope.end();
        stdexec::set_error(std::move(of->receiver), static_cast<Error&&>(error));
    }
    void set_stopped() && noexcept {
        of->scope.end();
        stdexec::set_stopped(std::move(of->receiver));
    }
    decltype(auto) get_env() const noexcept { return stdexec::get_env(std::as_const(of->receiver)); }
};

// stdexec does not require this tag, the standard does.
template <class Operation>
struct operation_tag {};
template <class Operation>
    requires requires { typename Operation::operation_state_concept; }
struct operation_tag<Operation> { using operation_state_concept = typename Operation::operation_state_concept; };

template <class Sender, class Receiver>
using operation_of = stdexec::connect_result_t<Sender, Receiver>;

template <class Sender, class Scope, class Receiver>
class measured_operation : public operation_tag<operation_of<Sender, measured_receiver<Scope, Receiver>>>,
                           measurement<Scope, Receiver> {
public:
    measured_operation(Sender&& from, Scope&& during, Receiver&& to)
        : measurement<Scope, Receiver>{std::move(during), std::move(to)},
          inner_(stdexec::connect(std::move(from), measured_receiver<Scope, Receiver>{this})) {}
    measured_operation(measured_operation&&) = delete;

    void start() noexcept {
        this->scope.start();
        stdexec::start(inner_);
    }

private:
    operation_of<Sender, measured_receiver<Scope, Receiver>> inner_;
};

template <class Sender, class Scope>
class [[nodiscard]] measured_sender {
public:
    using sender_concept = typename Sender::sender_concept;

    template <class Make>
    measured_sender(Scope& scope, Make&& make) : sender_(make()), scope_(std::move(scope)) {}

    template <class Self, class... Env>
        requires(!std::is_lvalue_reference_v<Self>)
    static consteval auto get_completion_signatures() -> stdexec::completion_signatures_of_t<Sender, Env...> {
        return {};
    }
    template <class Receiver>
    auto connect(Receiver receiver) && -> measured_operation<Sender, Scope, Receiver> {
        return {std::move(sender_), std::move(scope_), std::move(receiver)};
    }
    decltype(auto) get_env() const noexcept { return stdexec::get_env(sender_); }

private:
    Sender sender_;
    Scope scope_;
};

}  // namespace prom_stdexec

template <class Sender>
    requires requires { typename Sender::sender_concept; }
struct prometheus_async::detail::foreign_kind<Sender> : std::true_type {
    template <class Scope, class Make>
    static prom_stdexec::measured_sender<Sender, Scope> measure(Scope& scope, Make&& make) {
        return {scope, static_cast<Make&&>(make)};
    }
};

#endif
