// How the examples read their port from the command line.
#ifndef EXAMPLES_PORT_HPP
#define EXAMPLES_PORT_HPP

#include <cstdint>
#include <cstdio>
#include <cstdlib>

/// The first argument, or `otherwise` when there is none. Ends the program with 2 when it is no port.
inline std::uint16_t port_of(int argc, char** argv, std::uint16_t otherwise = 9464) {
    if (argc < 2) return otherwise;
    std::uint32_t port = 0;
    const char* at = argv[1];
    while (*at >= '0' && *at <= '9' && port <= 65535) port = port * 10 + static_cast<std::uint32_t>(*at++ - '0');
    if (*at == 0 && at != argv[1] && port <= 65535) return static_cast<std::uint16_t>(port);
    std::fprintf(stderr, "\"%s\" is no port: give a number from 0 (any free port) to 65535\n", argv[1]);
    std::exit(2);
}

#endif
