# SPDX-License-Identifier: Apache-2.0
"""What containerd and its likes say to the binary and over ttrpc, said directly."""
import json
import os
import stat
import struct
import subprocess
import time

from lcowtest import pb, proc, settings, ttrpc
from lcowtest.case import DirectCase, Shared, only_lcow


class Start(DirectCase):
    def started(self, stdin=b'', env=None, **options):
        box = self.sandbox(start=False, **options)
        code, out = box.start_command(stdin=stdin(box) if callable(stdin) else stdin, env=box.env(**env) if env else None)
        self.assertEqual(code, 0, out)
        return box, out

    def reaches(self, box, address):
        """The server answers at the address."""
        box.address = address
        box.connect()
        with self.assertRaises(ttrpc.RpcError) as e:
            box.call('State')
        self.assertEqual(e.exception.code, ttrpc.NOT_FOUND)

    def test_containerd_1_6_is_answered_a_plain_address(self):
        box, out = self.started()
        self.assertRegex(out.decode(), r'\Aunix:///\S+\Z')
        self.reaches(box, out.decode())

    @only_lcow('the shim of 1.6 answers a plain address always')
    def test_MAX_SHIM_VERSION_is_answered_JSON_of_version_2(self):
        box, out = self.started(env={'MAX_SHIM_VERSION': '2', 'GRPC_ADDRESS': self.bed.address, 'NAMESPACE': 'direct'})
        answer = json.loads(out)
        self.assertEqual((answer['version'], answer['protocol']), (2, 'ttrpc'))
        self.reaches(box, answer['address'])

    @only_lcow('the shim of 1.6 knows no sandboxes')
    def test_a_sandbox_bundle_is_answered_JSON_of_version_3(self):
        box, out = self.started(env={'MAX_SHIM_VERSION': '2'}, bundle_name='io.containerd.sandbox.controller.v1.shim/direct/s')
        answer = json.loads(out)
        self.assertEqual((answer['version'], answer['protocol']), (3, 'ttrpc'))
        self.reaches(box, answer['address'])

    @only_lcow('the shim of 1.6 does not know them')
    def test_BootstrapParams_are_answered_protobuf_of_version_3(self):
        def params(box):
            return pb.encode(pb.BOOTSTRAP_PARAMS, {
                'instance_id': box.id, 'namespace': box.namespace, 'log_level': -4, 'containerd_version': '2.4.0',
                'containerd_ttrpc_address': self.bed.address + '.ttrpc', 'containerd_grpc_address': self.bed.address,
                'extensions': [{'value': {'type_url': 'google.protobuf.Empty', 'value': b''}}]})
        box, out = self.started(stdin=params, env={'MAX_SHIM_VERSION': '2'})
        self.assertNotIn(out[-1:], b' \t\n\v\f\r')
        answer = pb.decode(pb.BOOTSTRAP_RESULT, out)
        self.assertEqual((answer['version'], answer['protocol']), (3, 'ttrpc'))
        self.reaches(box, answer['address'])

    @only_lcow('the shim of 1.6 does not know BootstrapParams')
    def test_the_socket_is_made_in_the_directory_that_BootstrapParams_name(self):
        directory = os.path.join(self.bed.dir, 'sd')
        os.makedirs(directory, exist_ok=True)
        box, out = self.started(stdin=lambda box: pb.encode(pb.BOOTSTRAP_PARAMS, {
            'instance_id': box.id, 'namespace': box.namespace, 'socket_dir': directory}))
        address = pb.decode(pb.BOOTSTRAP_RESULT, out)['address']
        self.assertTrue(address.startswith('unix://%s/' % directory), address)
        self.reaches(box, address)

    @only_lcow('runc refuses options that it does not know')
    def test_runtime_options_of_unknown_type_are_ignored(self):
        unknown = {'type_url': 'example.com/unheard.of', 'value': b'\x0a\x03abc'}
        box, out = self.started(stdin=pb.encode(pb.ANY, unknown))
        self.assertRegex(out.decode(), r'\Aunix:///\S+\Z')

    def test_a_second_start_of_a_live_group_answers_the_same_address(self):
        box, first = self.started()
        other = self.sandbox(start=False)
        spec = json.load(open(other.bundle + '/config.json'))
        spec['annotations'] = {'io.kubernetes.cri.container-type': 'container', 'io.kubernetes.cri.sandbox-id': box.id}
        other.write_config(json.dumps(spec))
        before = proc.running(os.path.basename(settings.shim_binary()))
        code, second = other.start_command()
        self.assertEqual((code, second), (0, first))
        self.assertEqual(proc.running(os.path.basename(settings.shim_binary())), before)

    def test_the_socket_is_for_its_owner_only(self):
        _, out = self.started()
        mode = os.stat(out.decode()[len('unix://'):]).st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(mode & 0o077, 0)

    def test_the_address_is_kept_in_the_bundle(self):
        box, out = self.started()
        with open(box.bundle + '/address') as f:
            self.assertEqual(f.read(), out.decode())

    def test_Shutdown_ends_a_shim_in_which_nothing_was_created(self):
        box, out = self.started()
        [pid] = proc.running(os.path.basename(settings.shim_binary()))
        box.address = out.decode()
        client = box.connect()
        try:
            client.send(client.task, 'Shutdown', pb.encode(pb.TASK['Shutdown'][0], {'id': box.id})).result(10)
        except ttrpc.Closed:
            pass
        proc.wait_gone(pid, settings.QUICK_LIMIT)

    @only_lcow('delete of the stock shim ends no server')
    def test_delete_ends_a_server_that_never_got_a_Create_and_may_be_repeated(self):
        box, _ = self.started()
        for _ in range(2):
            code, answer, err = box.delete_command()
            self.assertEqual(code, 0, err)
            self.assertGreater(answer['exit_status'], 127)
            self.assertGreater(answer['exited_at']['seconds'], 1600000000)
            self.assertLess(box.delete_seconds, 5 * settings.SLOW)
        self.assertEqual(proc.running(os.path.basename(settings.shim_binary())), [])

    @only_lcow('the stock shim stays')
    def test_a_server_whose_bundle_is_gone_ends_by_itself_once_nobody_is_connected(self):
        box, out = self.started()
        [pid] = proc.running(os.path.basename(settings.shim_binary()))
        box.address = out.decode()
        client = box.connect()
        aside = box.bundle + '.aside'
        os.rename(box.bundle, aside)
        try:
            time.sleep(6)
            self.assertEqual(proc.running(os.path.basename(settings.shim_binary())), [pid])
            client.close()
            proc.wait_gone(pid, 2 * settings.QUICK_LIMIT)
        finally:
            os.rename(aside, box.bundle)

    def test_v_prints_a_version(self):
        done = subprocess.run([settings.shim_binary(), '-v'], capture_output=True, text=True, timeout=10,
                              stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(done.stdout.strip())

    @only_lcow('-info came with containerd 2')
    def test_info_names_the_runtime_and_the_mounts_that_it_takes_raw(self):
        for stdin in (b'', pb.encode(pb.ANY, {'type_url': 'example.com/unheard.of', 'value': b'x'})):
            done = subprocess.run([settings.shim_binary(), '-info'], capture_output=True, timeout=10, cwd='/', input=stdin)
            self.assertEqual(done.returncode, 0, done.stderr)
            info = pb.decode(pb.RUNTIME_INFO, done.stdout)
            self.assertEqual(info['name'], 'io.containerd.lcow.v2')
            self.assertTrue(info['version']['version'])
            self.assertIn('ociVersionMin', json.loads(info['features']['value']))
            self.assertEqual(info['annotations'], [
                {'key': 'containerd.io/runtime-allow-mounts', 'value': 'erofs,format/*,mkdir/*'}])


class Wire(Shared):
    """One running container; the connection is the subject."""

    def fresh(self, **options):
        client = ttrpc.Client(self.box.address, self.box.namespace, **options)
        self.addCleanup(client.close)
        return client

    def test_both_versions_of_the_task_service_answer(self):
        for task in ('containerd.task.v2.Task', *(['containerd.task.v3.Task'] if settings.IS_LCOW else [])):
            with self.subTest(task=task):
                state = self.fresh(task=task).call('State', id=self.box.id)
                self.assertEqual(state['status'], pb.RUNNING)

    def test_unknown_services_and_methods_are_Unimplemented(self):
        client = self.fresh()
        for service, method in (('containerd.task.v2.Task', 'Levitate'), ('no.such.Service', 'State')):
            with self.assertRaises(ttrpc.RpcError) as e:
                client.result(client.send(service, method, b''), 10)
            self.assertEqual(e.exception.code, ttrpc.UNIMPLEMENTED)
            self.assertIn(method if method == 'Levitate' else service, e.exception.message)

    def test_a_frame_that_is_too_large_is_ResourceExhausted_and_the_connection_survives(self):
        client = self.fresh()
        stream = client.next_stream()
        size = ttrpc.MAX_PAYLOAD + 1
        future = client.send_raw(struct.pack('>IIBB', size, stream, ttrpc.REQUEST, 0) + bytes(size), stream)
        with self.assertRaises(ttrpc.RpcError) as e:
            client.result(future, 20)
        self.assertEqual(e.exception.code, ttrpc.EXHAUSTED)
        self.assertEqual(client.call('State', id=self.box.id)['status'], pb.RUNNING)

    def test_a_payload_that_is_no_protobuf_is_an_error_and_the_connection_survives(self):
        client = self.fresh()
        with self.assertRaises(ttrpc.RpcError):
            client.result(client.send(client.task, 'State', b'\x0a\xff\xff'), 10)
        self.assertEqual(client.call('State', id=self.box.id)['status'], pb.RUNNING)

    def test_calls_run_concurrently_and_are_answered_out_of_order(self):
        client = self.fresh()
        waits = [client.start('Wait', id=self.box.id) for _ in range(200)]
        begin = time.monotonic()
        self.assertEqual(client.call('State', id=self.box.id)['status'], pb.RUNNING)
        self.assertLess(time.monotonic() - begin, 2 * settings.SLOW)
        self.assertFalse(any(w.done() for w in waits))

    def test_a_client_that_hangs_up_in_mid_frame_harms_nobody(self):
        for data in (b'\0', struct.pack('>IIBB', 100, 1, 1, 0) + b'half', b'\xff' * 64):
            raw = ttrpc.dial(self.box.address)
            raw.sendall(data)
            raw.close()
        self.assertEqual(self.fresh().call('State', id=self.box.id)['status'], pb.RUNNING)

    def test_ids_that_do_not_exist_are_NotFound(self):
        client = self.fresh()
        for method, fields in (('State', {'id': 'nobody'}), ('Kill', {'id': 'nobody', 'signal': 9}), ('Start', {'id': 'nobody'}),
                               ('State', {'id': self.box.id, 'exec_id': 'nobody'}), ('Delete', {'id': 'nobody'}),
                               ('Kill', {'id': self.box.id, 'exec_id': 'nobody', 'signal': 9}),
                               ('Wait', {'id': self.box.id, 'exec_id': 'nobody'})):
            with self.subTest(method=method, **fields):
                with self.assertRaises(ttrpc.RpcError) as e:
                    client.call(method, **fields)
                if settings.IS_LCOW or e.exception.code != ttrpc.UNKNOWN:
                    self.assertEqual(e.exception.code, ttrpc.NOT_FOUND, e.exception.message)

    @only_lcow('runc starts another container in its place')
    def test_a_second_Create_of_a_live_id_is_AlreadyExists(self):
        with self.assertRaises(ttrpc.RpcError) as e:
            self.box.call('Create', bundle=self.box.bundle, rootfs=[])
        self.assertEqual(e.exception.code, ttrpc.EXISTS)

    def test_Connect_names_the_shim_and_the_process(self):
        answer = self.box.call('Connect')
        self.assertIn(answer['shim_pid'], proc.running(os.path.basename(settings.shim_binary())))
        self.assertEqual(answer['task_pid'], self.box.call('State')['pid'])
        self.assertGreater(answer['task_pid'], 0)

    def test_State_of_the_container_repeats_what_Create_was_told(self):
        state = self.box.call('State')
        self.assertEqual((state['id'], state['bundle'], state['terminal']), (self.box.id, self.box.bundle, False))

    def test_Shutdown_leaves_a_shim_alone_that_has_a_container(self):
        self.box.call('Shutdown')
        for _ in range(3):
            self.assertEqual(self.fresh().call('State', id=self.box.id)['status'], pb.RUNNING)

    def test_Delete_of_a_running_container_is_FailedPrecondition(self):
        with self.assertRaises(ttrpc.RpcError) as e:
            self.box.call('Delete')
        if settings.IS_LCOW:
            self.assertEqual(e.exception.code, ttrpc.PRECONDITION)
        self.assertEqual(self.box.call('State')['status'], pb.RUNNING)
