// Counts what a test program allocates with new: `allocations`, and in `live` the octets that are not freed yet.
// Include it in one source file. The next `failing_allocations` ones, of `failing_allocation_size` or any, throw bad_alloc.
// clang's ThreadSanitizer has operators of its own that cannot be replaced, and without exceptions the library uses malloc:
// counts_allocations is false then.
#ifndef TESTS_SUPPORT_ALLOCATIONS_HPP
#define TESTS_SUPPORT_ALLOCATIONS_HPP

#include <cstddef>
#include <cstdlib>
#include <malloc.h>
#include <new>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TESTS_NO_ALLOCATIONS 1
#endif
#endif

[[maybe_unused]] static long allocations = 0;
[[maybe_unused]] static std::size_t live = 0;
[[maybe_unused]] static int failing_allocations = 0;
[[maybe_unused]] static std::size_t failing_allocation_size = 0;

#ifdef TESTS_NO_ALLOCATIONS
[[maybe_unused]] constexpr bool counts_allocations = false;
#else
#ifdef __cpp_exceptions
[[maybe_unused]] constexpr bool counts_allocations = true;
#else
[[maybe_unused]] constexpr bool counts_allocations = false;
#endif
__attribute__((noinline)) void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
    void* const p = std::malloc(n != 0 ? n : 1);
    __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&live, malloc_usable_size(p), __ATOMIC_RELAXED);
    return p;
}
__attribute__((noinline)) void* operator new(std::size_t n) {
#ifdef __cpp_exceptions
    if (failing_allocations != 0 && (failing_allocation_size == 0 || n == failing_allocation_size)) {
        --failing_allocations;
        throw std::bad_alloc();
    }
#endif
    void* const p = operator new(n, std::nothrow);
    if (!p) std::abort();
    return p;
}
__attribute__((noinline)) void operator delete(void* p) noexcept {
    __atomic_fetch_sub(&live, malloc_usable_size(p), __ATOMIC_RELAXED);
    std::free(p);
}
__attribute__((noinline)) void operator delete(void* p, std::size_t) noexcept { operator delete(p); }
__attribute__((noinline)) void operator delete(void* p, const std::nothrow_t&) noexcept { operator delete(p); }
#endif

#endif
