// Texts from outside: negotiation, UTF-8, the linter, the difference of pages, and a page made of them.
// max_len: 256
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include "examples/promlint.hpp"

namespace prom = prometheus_async;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto require = [](bool good) { if (!good) std::abort(); };

    const prom::negotiation agreed = prom::negotiate(text, text);
    require(!prom::content_type(agreed.as, agreed.names).empty());

    bool changed = false;
    const std::string safe = prom::detail::sanitize_utf8(text, changed);
    require(prom::detail::valid_utf8(safe) && changed == !prom::detail::valid_utf8(text) && (changed || safe == text));

    for (const auto scheme : {prom::escaping::underscores, prom::escaping::dots, prom::escaping::values}) {
        prom::detail::string name;
        prom::detail::append_name(name, text, scheme, true);
        require(name.empty() == text.empty() && (name.empty() || prom::detail::legacy_label_name(name)));
    }

    prom_lint::lint_page(text);
    require(prom_lint::page_diff(text, text).empty());

    // A page of it: valid UTF-8, one line for each series, whatever the value and the help hold.
    static prom::registry mine;
    static prom::registry* const one[] = {&mine};
    static prom::cursor pull;
    static std::string page;
    bool declared = false;
    if (prom::detail::valid_utf8(text) && !text.empty() && !text.starts_with("fuzz")) {  // "fuzz" would be the counter below
        auto made = mine.try_gauge(prom::utf8(text), text);
        declared = static_cast<bool>(made);
        if (!made) require(made.why().code() == prom::errc::invalid_name);
    }
    mine.make_family<prom::counter>("fuzz_total", text, {"a", "b"})({text, "second"}).inc();
    for (const auto as : {prom::format::text_1_0_0, prom::format::openmetrics_1_0_0}) {
        prom::page_options asked;
        asked.as = as;
        asked.names = agreed.names;
        asked.registries = one;
        pull.start(asked);
        page.clear();
        static char window[16384];
        for (prom::pulled got{0, prom::pull::more}; got.what == prom::pull::more; page.append(window, got.bytes)) got = pull.next(window);
        require(prom::detail::valid_utf8(page));
        require(prom_lint::page_diff(page, page).empty());
        std::size_t lines = 0;
        for (const char c : page) lines += c == '\n';
        require(lines <= 9 && page.find("fuzz_total{a=\"") != std::string::npos);
        if (as == prom::format::text_1_0_0) prom_lint::lint_page(page);
    }
    if (declared) require(mine.unregister(text));
    require(mine.unregister("fuzz_total"));
    return 0;
}
