// What Python may call: C functions that return 0, or 1 where there was not enough memory.
#pragma once
#define SRDFT_EXPORT extern "C" __attribute__((visibility("default")))

namespace srdft {

// No exception may leave a C function.
template <class Function>
int guarded(Function function) {
  try {
    function();
    return 0;
  } catch (...) {
    return 1;
  }
}

}  // namespace srdft
