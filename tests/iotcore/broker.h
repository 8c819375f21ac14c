/* The broker's interface for plugins, which mosquitto 2.1 moved to other headers. */
#pragma once

#include <mosquitto.h>
#if __has_include(<mosquitto/broker_plugin.h>)
#include <mosquitto/broker.h>
#include <mosquitto/broker_plugin.h>
#else
#include <mosquitto_broker.h>
/* needs the types of the former */
#include <mosquitto_plugin.h>
#endif
