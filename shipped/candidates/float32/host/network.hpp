// network as a C++17 class. It owns its arena: make it static on a device, and use one object a thread.
#ifndef SHOHIN_NETWORK_HPP
#define SHOHIN_NETWORK_HPP
#include <array>
#include <cstddef>
#include <cstdint>
#include "network.h"

namespace shohin {

class network {
public:
    static constexpr std::size_t input_size = network_INPUT_SIZE;
    static constexpr std::size_t output_size = network_OUTPUT_SIZE;
    static constexpr std::size_t arena_size = network_ARENA_SIZE;
    using element = float;
    using input = std::array<element, input_size>;
    using output = std::array<element, output_size>;

    // Is this build's arithmetic the one that the results are defined by?
    [[nodiscard]] static bool sound() noexcept { return network_selfcheck() == 0; }

    // One inference; false where the network refuses, which a sound build never does.
    [[nodiscard]] bool run(const input &in, output &out) noexcept { return network_run(in.data(), out.data(), arena_.data()) == 0; }

private:
    alignas(64) std::array<unsigned char, arena_size> arena_{};
};

}  // namespace shohin
#endif
