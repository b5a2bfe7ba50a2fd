# SPDX-License-Identifier: Apache-2.0
"""A look into a live shim and its VM: the ShimDiag service. Programs of the VM are those of its boot files."""
import os

from lcowtest import pb, settings, ttrpc
from lcowtest.case import only_lcow
from lcowtest.execs import ExecCase

CRUN = ('crun', '--root', '/run/crun')


@only_lcow('hcsshim has this service')
class Diag(ExecCase):
    def in_vm(self, *args, streams=('stdout',), wait=True, **more):
        """Run a program in the VM: (its exit code, or the call; the word of its FIFOs)"""
        word = self.new_exec()
        fields = self.box.stdio(*streams, prefix=word)
        if wait:
            return self.box.client.diag('DiagExecInHost', args=args, **fields, **more)['exit_code'], word
        request = pb.encode(pb.DIAG['DiagExecInHost'][0], {'args': args, **fields, **more})
        return self.box.client.send('containerd.runhcs.v1.diag.ShimDiag', 'DiagExecInHost', request), word

    def test_a_program_runs_in_the_VM_and_is_answered_with_its_exit_code(self):
        code, word = self.in_vm(*CRUN, 'list', '-q')
        self.assertEqual(code, 0)
        self.assertEqual(self.out(word).finish().decode().split(), [self.box.id])
        code, word = self.in_vm(*CRUN, 'state', 'nobody', streams=('stdout', 'stderr'))
        self.assertEqual(code, 1)
        self.assertIn(b'nobody', self.out(word, 'stderr').finish())

    def test_a_program_on_a_terminal(self):
        code, word = self.in_vm('crun', '--version', terminal=True)
        self.assertEqual(code, 0)
        self.assertRegex(self.out(word).finish(), rb'\Acrun version [^\n]*\r\n')

    def test_a_program_that_is_not_there_names_itself(self):
        with self.assertRaises(ttrpc.RpcError) as e:
            self.in_vm('no-such-program')
        self.assertIn('no-such-program', e.exception.message)

    def test_input_and_output_go_through_and_the_caller_s_leaving_ends_the_program(self):
        call, word = self.in_vm(*CRUN, 'exec', self.box.id, 'cat', streams=('stdin', 'stdout'), wait=False)
        fd = os.open(os.path.join(self.bed.dir, 'f-%s-%sstdin' % (self.box.id, word)), os.O_WRONLY)
        os.write(fd, b'to and fro\n')
        self.out(word).wait_for(b'to and fro\n')
        os.close(fd)
        self.assertFalse(call.done())
        self.box.connect()    # closes the connection before
        self.out(word).finish(settings.QUICK_LIMIT)

    def test_tasks_are_listed_with_their_execs(self):
        exec_id, _ = self.run_exec('true')
        self.box.call('Wait', exec_id=exec_id)
        self.assertEqual(self.box.client.diag('DiagTasks', execs=True)['tasks'],
                         [{'id': self.box.id, 'execs': [{'id': exec_id, 'state': 'STOPPED'}]}])
        self.assertEqual(self.box.client.diag('DiagTasks')['tasks'], [{'id': self.box.id, 'execs': []}])

    def test_stacks_are_those_of_shim_and_guest(self):
        stacks = self.box.client.diag('DiagStacks')
        self.assertIn('coroutine', stacks['stacks'])
        self.assertTrue(stacks['guest_stacks'])
        self.assertEqual(self.box.client.diag('DiagPid')['pid'], self.box.call('Connect')['shim_pid'])

    def test_a_share_for_the_VM_is_Unimplemented(self):
        with self.assertRaises(ttrpc.RpcError) as e:
            self.box.client.diag('DiagShare', host_path='/', uvm_path='/mnt')
        self.assertEqual(e.exception.code, ttrpc.UNIMPLEMENTED)
