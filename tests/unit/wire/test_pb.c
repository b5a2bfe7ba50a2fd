/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/pb.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "bootstrap.pb-c.h"
#include "cgroups2.pb-c.h"
#include "cri.pb-c.h"
#include "events.pb-c.h"
#include "forward.pb-c.h"
#include "google/protobuf/empty.pb-c.h"
#include "runc.pb-c.h"
#include "runhcs.pb-c.h"
#include "runtimeoptions.pb-c.h"
#include "sandbox.pb-c.h"
#include "shimdiag.pb-c.h"
#include "task.pb-c.h"
#include "ttrpc.pb-c.h"
#include "types.pb-c.h"
#include "wire/json.h"

/*
 * What containerd, hcsshim and Kubernetes publish, as text: every field of every message, its
 * number and type. The letter is s string, b bytes, t bool, u uint32, U uint64, i int32, I int64, d
 * double, e enum, m message; "*" is repeated.
 */
static const struct row {
	const ProtobufCMessageDescriptor *type;
	const char *name;
	const char *fields;
} rows[] = {
#define TASK(c, n, f) \
	{ \
		&containerd__task__v2__##c##__descriptor, "containerd.task.v2." n, f \
	}
	TASK(state_request, "StateRequest", "id 1s exec_id 2s"),
	TASK(state_response, "StateResponse",
	     "id 1s bundle 2s pid 3u status 4e stdin 5s stdout 6s stderr 7s terminal 8t "
	     "exit_status 9u exited_at 10m "
	     "exec_id 11s"),
	TASK(create_task_request, "CreateTaskRequest",
	     "id 1s bundle 2s rootfs 3m* terminal 4t stdin 5s stdout 6s stderr 7s checkpoint 8s "
	     "parent_checkpoint 9s "
	     "options 10m"),
	TASK(create_task_response, "CreateTaskResponse", "pid 1u"),
	TASK(start_request, "StartRequest", "id 1s exec_id 2s"),
	TASK(start_response, "StartResponse", "pid 1u"),
	TASK(delete_request, "DeleteRequest", "id 1s exec_id 2s"),
	TASK(delete_response, "DeleteResponse", "pid 1u exit_status 2u exited_at 3m"),
	TASK(pids_request, "PidsRequest", "id 1s"),
	TASK(pids_response, "PidsResponse", "processes 1m*"),
	TASK(pause_request, "PauseRequest", "id 1s"),
	TASK(resume_request, "ResumeRequest", "id 1s"),
	TASK(checkpoint_task_request, "CheckpointTaskRequest", "id 1s path 2s options 3m"),
	TASK(kill_request, "KillRequest", "id 1s exec_id 2s signal 3u all 4t"),
	TASK(exec_process_request, "ExecProcessRequest",
	     "id 1s exec_id 2s terminal 3t stdin 4s stdout 5s stderr 6s spec 7m"),
	TASK(resize_pty_request, "ResizePtyRequest", "id 1s exec_id 2s width 3u height 4u"),
	TASK(close_iorequest, "CloseIORequest", "id 1s exec_id 2s stdin 3t"),
	TASK(update_task_request, "UpdateTaskRequest", "id 1s resources 2m annotations 3m*"),
	TASK(wait_request, "WaitRequest", "id 1s exec_id 2s"),
	TASK(wait_response, "WaitResponse", "exit_status 1u exited_at 2m"),
	TASK(stats_request, "StatsRequest", "id 1s"),
	TASK(stats_response, "StatsResponse", "stats 1m"),
	TASK(connect_request, "ConnectRequest", "id 1s"),
	TASK(connect_response, "ConnectResponse", "shim_pid 1u task_pid 2u version 3s"),
	TASK(shutdown_request, "ShutdownRequest", "id 1s now 2t"),
	{ &containerd__v1__types__process_info__descriptor, "containerd.v1.types.ProcessInfo",
	  "pid 1u info 2m" },
#define SANDBOX(c, n, f) \
	{ \
		&containerd__runtime__sandbox__v1__##c##__descriptor, \
			"containerd.runtime.sandbox.v1." n, f \
	}
	SANDBOX(create_sandbox_request, "CreateSandboxRequest",
		"sandbox_id 1s bundle_path 2s rootfs 3m* options 4m netns_path 5s annotations 6m*"),
	SANDBOX(create_sandbox_response, "CreateSandboxResponse", ""),
	SANDBOX(start_sandbox_request, "StartSandboxRequest", "sandbox_id 1s"),
	SANDBOX(start_sandbox_response, "StartSandboxResponse", "pid 1u created_at 2m spec 3m"),
	SANDBOX(platform_request, "PlatformRequest", "sandbox_id 1s"),
	SANDBOX(platform_response, "PlatformResponse", "platform 1m"),
	SANDBOX(stop_sandbox_request, "StopSandboxRequest", "sandbox_id 1s timeout_secs 2u"),
	SANDBOX(stop_sandbox_response, "StopSandboxResponse", ""),
	SANDBOX(wait_sandbox_request, "WaitSandboxRequest", "sandbox_id 1s"),
	SANDBOX(wait_sandbox_response, "WaitSandboxResponse", "exit_status 1u exited_at 2m"),
	SANDBOX(sandbox_status_request, "SandboxStatusRequest", "sandbox_id 1s verbose 2t"),
	SANDBOX(sandbox_status_response, "SandboxStatusResponse",
		"sandbox_id 1s pid 2u state 3s info 4m* created_at 5m exited_at 6m extra 7m"),
	SANDBOX(ping_request, "PingRequest", "sandbox_id 1s"),
	SANDBOX(ping_response, "PingResponse", ""),
	SANDBOX(shutdown_sandbox_request, "ShutdownSandboxRequest", "sandbox_id 1s"),
	SANDBOX(shutdown_sandbox_response, "ShutdownSandboxResponse", ""),
	SANDBOX(sandbox_metrics_request, "SandboxMetricsRequest", "sandbox_id 1s"),
	SANDBOX(sandbox_metrics_response, "SandboxMetricsResponse", "metrics 1m"),
#define EVENT(c, n, f) \
	{ \
		&containerd__events__##c##__descriptor, "containerd.events." n, f \
	}
	EVENT(task_create, "TaskCreate",
	      "container_id 1s bundle 2s rootfs 3m* io 4m checkpoint 5s pid 6u"),
	EVENT(task_io, "TaskIO", "stdin 1s stdout 2s stderr 3s terminal 4t"),
	EVENT(task_start, "TaskStart", "container_id 1s pid 2u"),
	EVENT(task_exit, "TaskExit", "container_id 1s id 2s pid 3u exit_status 4u exited_at 5m"),
	EVENT(task_delete, "TaskDelete",
	      "container_id 1s pid 2u exit_status 3u exited_at 4m id 5s"),
	EVENT(task_oom, "TaskOOM", "container_id 1s"),
	EVENT(task_paused, "TaskPaused", "container_id 1s"),
	EVENT(task_resumed, "TaskResumed", "container_id 1s"),
	EVENT(task_exec_added, "TaskExecAdded", "container_id 1s exec_id 2s"),
	EVENT(task_exec_started, "TaskExecStarted", "container_id 1s exec_id 2s pid 3u"),
	EVENT(task_checkpointed, "TaskCheckpointed", "container_id 1s checkpoint 2s"),
	{ &containerd__services__events__ttrpc__v1__forward_request__descriptor,
	  "containerd.services.events.ttrpc.v1.ForwardRequest", "envelope 1m" },
#define TYPE(c, n, f) \
	{ \
		&containerd__types__##c##__descriptor, "containerd.types." n, f \
	}
	TYPE(mount, "Mount", "type 1s source 2s target 3s options 4s*"),
	TYPE(platform, "Platform",
	     "os 1s architecture 2s variant 3s os_version 4s os_features 5s*"),
	TYPE(metric, "Metric", "timestamp 1m id 2s data 3m"),
	TYPE(envelope, "Envelope", "timestamp 1m namespace 2s topic 3s event 4m"),
	TYPE(runtime_info, "RuntimeInfo",
	     "name 1s version 2m options 3m features 4m annotations 5m*"),
	TYPE(runtime_version, "RuntimeVersion", "version 1s revision 2s"),
#define BOOTSTRAP(c, n, f) \
	{ \
		&containerd__runtime__bootstrap__v1__##c##__descriptor, \
			"containerd.runtime.bootstrap.v1." n, f \
	}
	BOOTSTRAP(bootstrap_params, "BootstrapParams",
		  "instance_id 1s namespace 2s log_level 3e containerd_version 4s "
		  "containerd_ttrpc_address 5s "
		  "containerd_grpc_address 6s containerd_binary 7s extensions 8m* socket_dir 9s"),
	BOOTSTRAP(bootstrap_result, "BootstrapResult",
		  "version 1i address 2s protocol 3s capabilities 4i* metadata 5m*"),
	BOOTSTRAP(extension, "Extension", "value 1m"),
	{ &ttrpc__request__descriptor, "ttrpc.Request",
	  "service 1s method 2s payload 3b timeout_nano 4I metadata 5m*" },
	{ &ttrpc__response__descriptor, "ttrpc.Response", "status 1m payload 2b" },
	{ &ttrpc__key_value__descriptor, "ttrpc.KeyValue", "key 1s value 2s" },
	{ &google__rpc__status__descriptor, "google.rpc.Status", "code 1i message 2s details 3m*" },
	{ &google__protobuf__any__descriptor, "google.protobuf.Any", "type_url 1s value 2b" },
	{ &google__protobuf__timestamp__descriptor, "google.protobuf.Timestamp",
	  "seconds 1I nanos 2i" },
	{ &google__protobuf__empty__descriptor, "google.protobuf.Empty", "" },
	{ &runtimeoptions__v1__options__descriptor, "runtimeoptions.v1.Options",
	  "type_url 1s config_path 2s config_body 3b" },
	{ &containerd__runc__v1__options__descriptor, "containerd.runc.v1.Options",
	  "no_pivot_root 1t no_new_keyring 2t shim_cgroup 3s io_uid 4u io_gid 5u binary_name "
	  "6s root 7s "
	  "systemd_cgroup 9t criu_image_path 10s criu_work_path 11s task_api_address 12s "
	  "task_api_version 13u" },
	{ &containerd__runc__v1__process_details__descriptor, "containerd.runc.v1.ProcessDetails",
	  "exec_id 1s" },
	{ &containerd__runhcs__v1__options__descriptor, "containerd.runhcs.v1.Options",
	  "debug 1t debug_type 2e registry_root 3s sandbox_image 4s sandbox_platform 5s "
	  "sandbox_isolation 6e "
	  "boot_files_root_path 7s vm_processor_count 8i vm_memory_size_in_mb 9i GPUVHDPath "
	  "10s "
	  "scale_cpu_limits_to_sandbox 11t default_container_scratch_size_in_gb 12i "
	  "default_vm_scratch_size_in_gb 13i "
	  "share_scratch 14t NCProxyAddr 15s log_level 16s io_retry_timeout_in_sec 17i "
	  "default_container_annotations 18m* no_inherit_host_timezone 19t scrub_logs 20t" },
	{ &containerd__runhcs__v1__process_details__descriptor,
	  "containerd.runhcs.v1.ProcessDetails",
	  "image_name 1s created_at 2m kernel_time_100_ns 3U memory_commit_bytes 4U "
	  "memory_working_set_private_bytes 5U memory_working_set_shared_bytes 6U process_id "
	  "7u user_time_100_ns 8U "
	  "exec_id 9s" },
#define DIAG(c, n, f) \
	{ \
		&containerd__runhcs__v1__diag__##c##__descriptor, "containerd.runhcs.v1.diag." n, \
			f \
	}
	DIAG(exec_process_request, "ExecProcessRequest",
	     "args 1s* workdir 2s terminal 3t stdin 4s stdout 5s stderr 6s"),
	DIAG(exec_process_response, "ExecProcessResponse", "exit_code 1i"),
	DIAG(stacks_request, "StacksRequest", ""),
	DIAG(stacks_response, "StacksResponse", "stacks 1s guest_stacks 2s"),
	DIAG(share_request, "ShareRequest", "host_path 1s uvm_path 2s read_only 3t"),
	DIAG(share_response, "ShareResponse", ""),
	DIAG(pid_request, "PidRequest", ""),
	DIAG(pid_response, "PidResponse", "pid 1i"),
	DIAG(tasks_request, "TasksRequest", "execs 1t"),
	DIAG(task, "Task", "id 1s execs 2m*"),
	DIAG(exec, "Exec", "id 1s state 2s"),
	DIAG(tasks_response, "TasksResponse", "tasks 1m*"),
#define CG(c, n, f) \
	{ \
		&io__containerd__cgroups__v2__##c##__descriptor, "io.containerd.cgroups.v2." n, f \
	}
	CG(metrics, "Metrics",
	   "pids 1m cpu 2m memory 4m rdma 5m io 6m hugetlb 7m* memory_events 8m network 9m*"),
	CG(pids_stat, "PidsStat", "current 1U limit 2U"),
	CG(cpustat, "CPUStat",
	   "usage_usec 1U user_usec 2U system_usec 3U nr_periods 4U nr_throttled 5U "
	   "throttled_usec 6U PSI 7m "
	   "nr_bursts 8U burst_usec 9U"),
	CG(memory_stat, "MemoryStat",
	   "anon 1U file 2U kernel_stack 3U slab 4U sock 5U shmem 6U file_mapped 7U "
	   "file_dirty 8U file_writeback 9U "
	   "anon_thp 10U inactive_anon 11U active_anon 12U inactive_file 13U active_file 14U "
	   "unevictable 15U "
	   "slab_reclaimable 16U slab_unreclaimable 17U pgfault 18U pgmajfault 19U "
	   "workingset_refault 20U "
	   "workingset_activate 21U workingset_nodereclaim 22U pgrefill 23U pgscan 24U "
	   "pgsteal 25U pgactivate 26U "
	   "pgdeactivate 27U pglazyfree 28U pglazyfreed 29U thp_fault_alloc 30U "
	   "thp_collapse_alloc 31U usage 32U "
	   "usage_limit 33U swap_usage 34U swap_limit 35U max_usage 36U swap_max_usage 37U "
	   "PSI 38m"),
	CG(memory_events, "MemoryEvents",
	   "low 1U high 2U max 3U oom 4U oom_kill 5U oom_group_kill 6U"),
	CG(rdma_stat, "RdmaStat", "current 1m* limit 2m*"),
	CG(rdma_entry, "RdmaEntry", "device 1s hca_handles 2u hca_objects 3u"),
	CG(iostat, "IOStat", "usage 1m* PSI 2m"),
	CG(ioentry, "IOEntry", "major 1U minor 2U rbytes 3U wbytes 4U rios 5U wios 6U"),
	CG(huge_tlb_stat, "HugeTlbStat", "current 1U max 2U pagesize 3s failcnt 4U"),
	CG(psistats, "PSIStats", "some 1m full 2m"),
	CG(psidata, "PSIData", "avg10 1d avg60 2d avg300 3d total 4U"),
	CG(network_stat, "NetworkStat",
	   "name 1s rx_bytes 2U rx_packets 3U rx_errors 4U rx_dropped 5U tx_bytes 6U "
	   "tx_packets 7U tx_errors 8U "
	   "tx_dropped 9U"),
#define CRI(c, n, f) \
	{ \
		&runtime__v1__##c##__descriptor, "runtime.v1." n, f \
	}
	CRI(pod_sandbox_config, "PodSandboxConfig",
	    "metadata 1m hostname 2s log_directory 3s dns_config 4m port_mappings 5m* labels "
	    "6m* annotations 7m* "
	    "linux_config 8m"),
	CRI(pod_sandbox_metadata, "PodSandboxMetadata", "name 1s uid 2s namespace 3s attempt 4u"),
	CRI(dnsconfig, "DNSConfig", "servers 1s* searches 2s* options 3s*"),
	CRI(port_mapping, "PortMapping", "protocol 1e container_port 2i host_port 3i host_ip 4s"),
	CRI(linux_pod_sandbox_config, "LinuxPodSandboxConfig",
	    "cgroup_parent 1s security_context 2m sysctls 3m* overhead 4m resources 5m"),
	CRI(linux_sandbox_security_context, "LinuxSandboxSecurityContext",
	    "namespace_options 1m run_as_user 3m readonly_rootfs 4t supplemental_groups 5I* "
	    "privileged 6t "
	    "seccomp_profile_path 7s run_as_group 8m seccomp 9m apparmor 10m"),
	CRI(linux_container_resources, "LinuxContainerResources",
	    "cpu_period 1I cpu_quota 2I cpu_shares 3I memory_limit_in_bytes 4I oom_score_adj "
	    "5I cpuset_cpus 6s "
	    "cpuset_mems 7s hugepage_limits 8m* unified 9m* memory_swap_limit_in_bytes 10I"),
	CRI(namespace_option, "NamespaceOption", "network 1e pid 2e ipc 3e target_id 4s"),
	CRI(security_profile, "SecurityProfile", "profile_type 1e localhost_ref 2s"),
	CRI(hugepage_limit, "HugepageLimit", "page_size 1s limit 2U"),
	CRI(int64_value, "Int64Value", "value 1I"),
};

static char type_letter(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_STRING:
		return 's';
	case PROTOBUF_C_TYPE_BYTES:
		return 'b';
	case PROTOBUF_C_TYPE_BOOL:
		return 't';
	case PROTOBUF_C_TYPE_UINT32:
		return 'u';
	case PROTOBUF_C_TYPE_UINT64:
		return 'U';
	case PROTOBUF_C_TYPE_INT32:
		return 'i';
	case PROTOBUF_C_TYPE_INT64:
		return 'I';
	case PROTOBUF_C_TYPE_DOUBLE:
		return 'd';
	case PROTOBUF_C_TYPE_ENUM:
		return 'e';
	case PROTOBUF_C_TYPE_MESSAGE:
		return 'm';
	default:
		return '?';
	}
}

START_TEST(every_message_has_exactly_the_published_fields)
{
	const struct row *row = &rows[_i];
	_cleanup_buf_ struct buf text = { 0 };

	ck_assert_str_eq(row->type->name, row->name);
	for (unsigned i = 0; i < row->type->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &row->type->fields[i];
		buf_addf(&text, "%s%s %u%c%s", i ? " " : "", f->name, f->id, type_letter(f->type),
			 f->label == PROTOBUF_C_LABEL_REPEATED ? "*" : "");
	}
	buf_add(&text, "", 1);
	ck_assert_str_eq((const char *)text.data, row->fields);
}
END_TEST

/* A message of @type with every field set, as another implementation would write it. */
static void encode_full(struct buf *out, const ProtobufCMessageDescriptor *type)
{
	for (unsigned i = 0; i < type->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &type->fields[i];
		bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;
		_cleanup_buf_ struct buf value = { 0 };
		unsigned wire = 2;

		switch (f->type) {
		case PROTOBUF_C_TYPE_STRING:
		case PROTOBUF_C_TYPE_BYTES:
			buf_addf(&value, "\x03%.3s", f->name[2] ? f->name : "abc");
			break;
		case PROTOBUF_C_TYPE_MESSAGE: {
			_cleanup_buf_ struct buf sub = { 0 };
			encode_full(&sub, f->descriptor);
			for (size_t n = sub.len;; n >>= 7) {
				buf_add(&value,
					&(uint8_t){ (uint8_t)((n & 127) | (n > 127 ? 128 : 0)) },
					1);
				if (n <= 127)
					break;
			}
			buf_add(&value, sub.data, sub.len);
			break;
		}
		case PROTOBUF_C_TYPE_DOUBLE:
			wire = 1;
			buf_add(&value, &(double){ 0.25 }, sizeof(double));
			break;
		default:
			/* Repeated numbers are packed. */
			wire = repeated ? 2 : 0;
			buf_add(&value, repeated ? "\x01\x01" : "\x01", repeated ? 2 : 1);
		}
		unsigned key = f->id << 3 | wire;
		if (key > 127)
			buf_add(out, &(uint8_t){ (uint8_t)(key | 128) }, 1);
		buf_add(out, &(uint8_t){ (uint8_t)(key > 127 ? key >> 7 : key) }, 1);
		buf_add(out, value.data, value.len);
	}
}

START_TEST(every_message_survives_decoding_and_encoding)
{
	_cleanup_buf_ struct buf in = { 0 };
	_cleanup_pb_ void *msg = NULL;
	struct err err = { 0 };

	encode_full(&in, rows[_i].type);
	ck_assert_msg(pb_unpack(rows[_i].type, in.data, in.len, &msg, &err) == 0, "%s", err.text);
	size_t len;
	_cleanup_free_ uint8_t *out = pb_pack(msg, &len);
	ck_assert_uint_eq(len, in.len);
	if (len > 0)
		ck_assert_mem_eq(out, in.data, len);
}
END_TEST

START_TEST(every_truncation_is_refused_or_a_shorter_message)
{
	_cleanup_buf_ struct buf in = { 0 };

	encode_full(&in, rows[_i].type);
	for (size_t len = 0; len < in.len; len++) {
		/* A copy of the exact size lets ASan see a byte too far. */
		_cleanup_free_ uint8_t *copy = malloc(len ? len : 1);
		_cleanup_pb_ void *msg = NULL;
		memcpy(copy, in.data, len);
		int r = pb_unpack(rows[_i].type, copy, len, &msg, NULL);
		ck_assert(r == 0 || r == -ERR_INVALID);
	}
}
END_TEST

START_TEST(bootstrap_result_is_what_containerd_reads)
{
	static const uint8_t want[] = "\x08\x03\x12\x0cunix:///x/sk\x1a\x05ttrpc";
	_cleanup_pb_ Containerd__Runtime__Bootstrap__V1__BootstrapResult *r =
		pb_new(&containerd__runtime__bootstrap__v1__bootstrap_result__descriptor);

	r->version = 3;
	pb_str(&r->address, "unix:///x/sk");
	pb_str(&r->protocol, "ttrpc");
	size_t len;
	_cleanup_free_ uint8_t *out = pb_pack(r, &len);
	ck_assert_uint_eq(len, sizeof(want) - 1);
	ck_assert_mem_eq(out, want, len);
}
END_TEST

START_TEST(negative_log_levels_of_bootstrap_params_are_read)
{
	static const uint8_t in[] =
		"\x0a\x02id\x12\x02ns\x18\xfc\xff\xff\xff\xff\xff\xff\xff\xff\x01"
		"\x42\x1b\x0a\x19\x0a\x15google.protobuf.Empty\x12\x00"
		"\x4a\x02/d\xa2\x06\x01x";
	_cleanup_pb_ Containerd__Runtime__Bootstrap__V1__BootstrapParams *p = NULL;

	ck_assert_int_eq(
		pb_unpack(&containerd__runtime__bootstrap__v1__bootstrap_params__descriptor, in,
			  sizeof(in) - 1, &p, NULL),
		0);
	ck_assert_str_eq(p->instance_id, "id");
	ck_assert_str_eq(p->namespace_, "ns");
	ck_assert_int_eq(p->log_level, -4);
	ck_assert_uint_eq(p->n_extensions, 1);
	ck_assert(pb_any_is(p->extensions[0]->value, "google.protobuf.Empty"));
	ck_assert_str_eq(p->socket_dir, "/d");
	ck_assert_str_eq(p->containerd_version, "");
}
END_TEST

START_TEST(an_event_in_its_envelope_has_known_bytes)
{
	static const uint8_t want[] = "\x0a\x46"
				      "\x0a\x04\x08\x01\x10\x02"
				      "\x12\x02ns"
				      "\x1a\x0b/tasks/exit"
				      "\x22\x2d\x0a\x1a"
				      "containerd.events.TaskExit"
				      "\x12\x0f\x0a\x01"
				      "c\x12\x01"
				      "e\x18\x07 \x89\x01\x2a\x02\x08\x05";
	_cleanup_pb_ Containerd__Services__Events__Ttrpc__V1__ForwardRequest *fwd =
		pb_new(&containerd__services__events__ttrpc__v1__forward_request__descriptor);
	_cleanup_pb_ Containerd__Events__TaskExit *ev =
		pb_new(&containerd__events__task_exit__descriptor);

	pb_str(&ev->container_id, "c");
	pb_str(&ev->id, "e");
	ev->pid = 7;
	ev->exit_status = 137;
	ev->exited_at = pb_time(5 * NSEC_PER_SEC);
	fwd->envelope = pb_new(&containerd__types__envelope__descriptor);
	fwd->envelope->timestamp = pb_time(NSEC_PER_SEC + 2);
	pb_str(&fwd->envelope->namespace_, "ns");
	pb_str(&fwd->envelope->topic, "/tasks/exit");
	fwd->envelope->event = pb_any(ev);
	size_t len;
	_cleanup_free_ uint8_t *out = pb_pack(fwd, &len);
	ck_assert_uint_eq(len, sizeof(want) - 1);
	ck_assert_mem_eq(out, want, len);
}
END_TEST

START_TEST(an_unset_scrub_logs_is_told_from_false)
{
	_cleanup_pb_ Containerd__Runhcs__V1__Options *unset = NULL, *off = NULL;

	ck_assert_int_eq(pb_unpack(&containerd__runhcs__v1__options__descriptor, NULL, 0, &unset,
				   NULL),
			 0);
	ck_assert_int_eq(unset->scrub_logs_set_case,
			 CONTAINERD__RUNHCS__V1__OPTIONS__SCRUB_LOGS_SET__NOT_SET);
	ck_assert_int_eq(pb_unpack(&containerd__runhcs__v1__options__descriptor, "\xa0\x01\x00", 3,
				   &off, NULL),
			 0);
	ck_assert_int_eq(off->scrub_logs_set_case,
			 CONTAINERD__RUNHCS__V1__OPTIONS__SCRUB_LOGS_SET_SCRUB_LOGS);
	ck_assert(!off->scrub_logs);
}
END_TEST

START_TEST(unknown_fields_are_skipped)
{
	/* windows (9) of a PodSandboxConfig, and a field nobody knows */
	static const uint8_t in[] = "\x12\x01h\x4a\x03\x0a\x01x\xfa\x7f\x01z";
	_cleanup_pb_ Runtime__V1__PodSandboxConfig *c = NULL;

	ck_assert_int_eq(pb_unpack(&runtime__v1__pod_sandbox_config__descriptor, in, sizeof(in) - 1,
				   &c, NULL),
			 0);
	ck_assert_str_eq(c->hostname, "h");
}
END_TEST

START_TEST(a_small_message_that_needs_much_memory_is_refused)
{
	/* Two bytes on the wire, a struct, its strings and an array slot in memory. */
	size_t len = 4 << 20;
	_cleanup_free_ uint8_t *in = malloc(len);
	_cleanup_pb_ void *msg = NULL;
	struct err err = { 0 };

	for (size_t i = 0; i < len; i += 2) {
		in[i] = 0x1a;
		in[i + 1] = 0;
	}
	ck_assert_int_eq(pb_unpack(&containerd__task__v2__create_task_request__descriptor, in, len,
				   &msg, &err),
			 -ERR_EXHAUSTED);
	ck_assert_ptr_null(msg);
	ck_assert_ptr_nonnull(strstr(err.text, "too large"));
}
END_TEST

START_TEST(malformed_bytes_name_the_message)
{
	_cleanup_pb_ void *msg = NULL;
	struct err err = { 0 };

	ck_assert_int_eq(pb_unpack(&containerd__task__v2__kill_request__descriptor, "\x0a\x7fx", 3,
				   &msg, &err),
			 -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "containerd.task.v2.KillRequest"));
}
END_TEST

START_TEST(an_any_is_matched_by_name_with_and_without_a_host)
{
	_cleanup_pb_ Containerd__Runc__V1__Options *o =
		pb_new(&containerd__runc__v1__options__descriptor);
	_cleanup_pb_ Containerd__Runc__V1__Options *back = NULL;

	pb_str(&o->root, "/r");
	_cleanup_pb_ Google__Protobuf__Any *any = pb_any(o);
	ck_assert_str_eq(any->type_url, "containerd.runc.v1.Options");
	pb_str(&any->type_url, "type.googleapis.com/containerd.runc.v1.Options");
	ck_assert_int_eq(pb_any_unpack(any, &containerd__runc__v1__options__descriptor, &back,
				       NULL),
			 0);
	ck_assert_str_eq(back->root, "/r");
	ck_assert(!pb_any_is(any, "runc.v1.Options"));
	ck_assert(!pb_any_is(any, "Options"));
	ck_assert(!pb_any_is(NULL, "Options"));

	struct err err = { 0 };
	void *wrong = NULL;
	ck_assert_int_eq(pb_any_unpack(any, &runtimeoptions__v1__options__descriptor, &wrong, &err),
			 -ERR_INVALID);
	ck_assert_int_eq(pb_any_unpack(NULL, &runtimeoptions__v1__options__descriptor, &wrong,
				       &err),
			 -ERR_INVALID);
	ck_assert_ptr_null(wrong);
	ck_assert_str_eq(err.text, "expected runtimeoptions.v1.Options, got nothing");
}
END_TEST

START_TEST(json_in_an_any_keeps_its_type_url)
{
	_cleanup_pb_ Google__Protobuf__Any *any =
		pb_any_raw("types.containerd.io/opencontainers/runtime-spec/1/Process", "{}", 2);

	ck_assert(pb_any_is(any, "types.containerd.io/opencontainers/runtime-spec/1/Process"));
	ck_assert_uint_eq(any->value.len, 2);
	ck_assert_mem_eq(any->value.data, "{}", 2);
}
END_TEST

START_TEST(strings_can_be_set_again_and_cleared)
{
	_cleanup_pb_ Containerd__Task__V2__KillRequest *k =
		pb_new(&containerd__task__v2__kill_request__descriptor);

	pb_str(&k->id, "a");
	pb_str(&k->id, "b");
	ck_assert_str_eq(k->id, "b");
	pb_str(&k->id, k->id);
	ck_assert_str_eq(k->id, "b");
	pb_str(&k->id, NULL);
	ck_assert_str_eq(k->id, "");
	ck_assert_uint_eq(protobuf_c_message_get_packed_size(&k->base), 0);
}
END_TEST

START_TEST(maps_are_set_replaced_and_read_by_key)
{
	_cleanup_pb_ Containerd__Types__RuntimeInfo *r =
		pb_new(&containerd__types__runtime_info__descriptor);

	ck_assert_ptr_null(pb_map_get(r, "annotations", "k"));
	pb_map_set(r, "annotations", "k", "1");
	pb_map_set(r, "annotations", "j", "2");
	pb_map_set(r, "annotations", "k", "3");
	ck_assert_uint_eq(r->n_annotations, 2);
	ck_assert_str_eq(pb_map_get(r, "annotations", "k"), "3");
	ck_assert_str_eq(pb_map_get(r, "annotations", "j"), "2");
}
END_TEST

START_TEST(the_last_of_equal_map_keys_counts)
{
	static const uint8_t in[] = "\x2a\x06\x0a\x01k\x12\x01"
				    "1\x2a\x06\x0a\x01k\x12\x01"
				    "2";
	_cleanup_pb_ Containerd__Types__RuntimeInfo *r = NULL;

	ck_assert_int_eq(pb_unpack(&containerd__types__runtime_info__descriptor, in, sizeof(in) - 1,
				   &r, NULL),
			 0);
	ck_assert_str_eq(pb_map_get(r, "annotations", "k"), "2");
}
END_TEST

START_TEST(repeated_fields_grow)
{
	_cleanup_pb_ Containerd__Task__V2__CreateTaskRequest *c =
		pb_new(&containerd__task__v2__create_task_request__descriptor);
	Containerd__Types__Mount *m = pb_new(&containerd__types__mount__descriptor);

	pb_append_str(m, "options", "ro");
	pb_append_str(m, "options", "lowerdir=/a");
	pb_append(c, "rootfs", m);
	ck_assert_uint_eq(c->n_rootfs, 1);
	ck_assert_uint_eq(c->rootfs[0]->n_options, 2);
	ck_assert_str_eq(c->rootfs[0]->options[1], "lowerdir=/a");
}
END_TEST

static int metrics_of(const char *text, Io__Containerd__Cgroups__V2__Metrics **ret, struct err *err)
{
	_cleanup_json_ struct json_object *o = NULL;

	ck_assert_int_eq(json_parse(text, strlen(text), &o, NULL), 0);
	return pb_from_json(&io__containerd__cgroups__v2__metrics__descriptor, o, ret, err);
}

START_TEST(json_with_the_names_of_the_fields_becomes_a_message)
{
	_cleanup_pb_ Io__Containerd__Cgroups__V2__Metrics *m = NULL;

	ck_assert_int_eq(metrics_of("{\"pids\":{\"limit\":18446744073709551615},\"new\":[{}],"
				    "\"cpu\":{\"PSI\":{\"some\":{\"avg10\":0.5}}},"
				    "\"hugetlb\":[{\"pagesize\":\"2MB\",\"max\":3},{}]}",
				    &m, NULL),
			 0);
	ck_assert_uint_eq(m->pids->limit, UINT64_MAX);
	ck_assert_double_eq(m->cpu->psi->some->avg10, 0.5);
	ck_assert_uint_eq(m->n_hugetlb, 2);
	ck_assert_str_eq(m->hugetlb[0]->pagesize, "2MB");
	ck_assert_uint_eq(m->hugetlb[0]->max, 3);
	ck_assert_ptr_null(m->memory);
}
END_TEST

START_TEST(json_whose_values_do_not_fit_names_the_field)
{
	static const char *const texts[] = {
		"{\"pids\":[]}",
		"{\"pids\":{\"limit\":-1}}",
		"{\"pids\":{\"limit\":\"1\"}}",
		"{\"pids\":null}",
		"{\"hugetlb\":{}}",
		"{\"hugetlb\":[1]}",
		"{\"hugetlb\":[{\"pagesize\":2}]}",
		"{\"rdma\":{\"current\":[{\"hca_handles\":4294967296}]}}",
		"{\"cpu\":{\"PSI\":{\"some\":{\"avg10\":\"x\"}}}}",
	};
	static struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		Io__Containerd__Cgroups__V2__Metrics *m = NULL;

		ck_assert_msg(metrics_of(texts[i], &m, &e) == -ERR_INVALID, "%s", texts[i]);
		ck_assert_ptr_null(m);
		ck_assert_msg(*e.text, "%s", texts[i]);
	}
}
END_TEST

START_TEST(times_go_both_ways_and_odd_ones_count_as_unset)
{
	Google__Protobuf__Timestamp t = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	_cleanup_pb_ Google__Protobuf__Timestamp *made = pb_time(1700000000123456789ull);

	ck_assert_int_eq(made->seconds, 1700000000);
	ck_assert_int_eq(made->nanos, 123456789);
	ck_assert_uint_eq(pb_time_ns(made), 1700000000123456789ull);
	ck_assert_ptr_null(pb_time(0));
	ck_assert_uint_eq(pb_time_ns(NULL), 0);
	/* Go's zero time, as runc's shim sends it */
	t.seconds = -62135596800;
	ck_assert_uint_eq(pb_time_ns(&t), 0);
	t.seconds = INT64_MAX;
	ck_assert_uint_eq(pb_time_ns(&t), 0);
	t.seconds = 1;
	t.nanos = -1;
	ck_assert_uint_eq(pb_time_ns(&t), 0);
	t.nanos = 1000000000;
	ck_assert_uint_eq(pb_time_ns(&t), 0);
}
END_TEST

START_TEST(a_misspelled_field_aborts)
{
	pb_map_get(pb_new(&containerd__types__runtime_info__descriptor), "annotation", "k");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire pb");
	TCase *tc = tcase_create("pb");

	tcase_add_loop_test(tc, every_message_has_exactly_the_published_fields, 0,
			    ARRAY_SIZE(rows));
	tcase_add_loop_test(tc, every_message_survives_decoding_and_encoding, 0, ARRAY_SIZE(rows));
	tcase_add_loop_test(tc, every_truncation_is_refused_or_a_shorter_message, 0,
			    ARRAY_SIZE(rows));
	tcase_add_test(tc, bootstrap_result_is_what_containerd_reads);
	tcase_add_test(tc, negative_log_levels_of_bootstrap_params_are_read);
	tcase_add_test(tc, an_event_in_its_envelope_has_known_bytes);
	tcase_add_test(tc, an_unset_scrub_logs_is_told_from_false);
	tcase_add_test(tc, unknown_fields_are_skipped);
	tcase_add_test(tc, a_small_message_that_needs_much_memory_is_refused);
	tcase_add_test(tc, malformed_bytes_name_the_message);
	tcase_add_test(tc, an_any_is_matched_by_name_with_and_without_a_host);
	tcase_add_test(tc, json_in_an_any_keeps_its_type_url);
	tcase_add_test(tc, strings_can_be_set_again_and_cleared);
	tcase_add_test(tc, maps_are_set_replaced_and_read_by_key);
	tcase_add_test(tc, the_last_of_equal_map_keys_counts);
	tcase_add_test(tc, repeated_fields_grow);
	tcase_add_test(tc, json_with_the_names_of_the_fields_becomes_a_message);
	tcase_add_test(tc, json_whose_values_do_not_fit_names_the_field);
	tcase_add_test(tc, times_go_both_ways_and_odd_ones_count_as_unset);
	tcase_add_test_raise_signal(tc, a_misspelled_field_aborts, 6);
	suite_add_tcase(suite, tc);

	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
