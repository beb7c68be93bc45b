// What Python may call.
#pragma once
#define SRDFT_EXPORT extern "C" __attribute__((visibility("default")))
