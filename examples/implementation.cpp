// The implementation as a unit of its own: compile this file once, and define PROMETHEUS_ASYNC_IMPLEMENTATION nowhere.
// The other units then take the interface alone. examples/cmake and examples/meson build it as a library.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
