// Counts what a test program allocates with new: `allocations`. Include it in one source file.
// clang's ThreadSanitizer has operators of its own that cannot be replaced: counts_allocations is false then.
#ifndef TESTS_SUPPORT_ALLOCATIONS_HPP
#define TESTS_SUPPORT_ALLOCATIONS_HPP

#include <cstddef>
#include <cstdlib>
#include <new>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TESTS_NO_ALLOCATIONS 1
#endif
#endif

static long allocations = 0;

#ifdef TESTS_NO_ALLOCATIONS
constexpr bool counts_allocations = false;
#else
constexpr bool counts_allocations = true;
__attribute__((noinline)) void* operator new(std::size_t n) {
    __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
    void* p = std::malloc(n != 0 ? n : 1);
    if (!p) std::abort();
    return p;
}
__attribute__((noinline)) void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return operator new(n); }
__attribute__((noinline)) void operator delete(void* p) noexcept { std::free(p); }
__attribute__((noinline)) void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif

#endif
