// Work shared out among threads, always in the same way: no result depends on which thread is fast.
#pragma once
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace srdft {

// Into so many parts a kernel divides its blocks, however many threads there are, and adds up what
// they give in their order: no digit depends on the number of threads.
constexpr int SHARES = 8;

// function(thread, index) for every index below count; each thread has a run of them.  What a thread
// throws is thrown again here, and where no further thread can be had, this one does its part.
template <class Function>
void parallel_for(int threads, int count, Function function) {
  if (threads > count) threads = count;
  if (count <= 0) return;
  std::vector<std::exception_ptr> failures(threads);
  const auto share = [&](int thread) {
    const long first = static_cast<long>(thread) * count / threads;
    const long last = static_cast<long>(thread + 1) * count / threads;
    try {
      for (long index = first; index < last; ++index) function(thread, static_cast<int>(index));
    } catch (...) {
      failures[thread] = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  others.reserve(threads);
  for (int thread = 1; thread < threads; ++thread) {
    try {
      others.emplace_back(share, thread);
    } catch (const std::system_error&) {
      share(thread);
    }
  }
  share(0);
  for (std::thread& other : others) other.join();
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

}  // namespace srdft
